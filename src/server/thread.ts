/** What runs in the database's thread: SQLite, and all work that is done beside it. */
import './imports.ts'
import './orders.ts'
import './queue.ts'
import './record.ts'
import './registry.ts'
import './store/binaries.ts'
import './store/sources.ts'
import './store/verdicts.ts'
import { serveDatabase } from './store/thread.ts'

serveDatabase()
