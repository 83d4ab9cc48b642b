/** What operators do with queue and workers, and how the queue explains itself. */
import { getQueueControl, explainPackage, setQueueControl } from '../wire/queue.ts'
import { SyncState, confirmScope, forgetSync, listScopes, listSyncs, writeSync } from '../wire/sync.ts'
import { drainWorker as drain } from '../wire/workers.ts'
import { checked, wireTime } from '../wire/schema.ts'
import { confirmReport } from './imports.ts'
import { outlooks } from './outlook.ts'
import { pauseSwitch } from './queue.ts'
import { notFound } from './refusal.ts'
import { alsoOf, revisionOf } from './revision.ts'
import type { Mount } from './route.ts'
import type { Service } from './service.ts'
import { first } from './store/database.ts'
import { scopeRows, touched } from './store/imports.ts'
import { switchOf, switched, switchesFrom, type Switch } from './store/queue.ts'
import { workerDrained } from './registry.ts'
import { written } from './store/work.ts'

/** Switches of syncs: this and the name. */
const syncSwitch = 'sync.'

/** Mounts what administrators steer: the queue as a whole, workers, syncs. */
export function mountControl(mount: Mount, service: Service): void {
  const { db, now, log } = service
  mount(
    getQueueControl,
    async () => {
      const pause = await first(db.all<Switch>(switchOf(pauseSwitch)))
      if (pause === null) return { paused: false, since: null, note: null }
      return { paused: true, since: pause.changed_at, note: pause.value === '' ? null : pause.value }
    },
    revisionOf(service, 'queue'),
  )
  mount(setQueueControl, async ({ body }) => {
    const moment = wireTime(now())
    const note = body.paused ? (body.note ?? '') : null
    await written(db, [switched(pauseSwitch, note, moment), touched(moment, 'queue')])
    log.info(body.paused ? `the queue is paused: ${body.note ?? 'no reason given'}` : 'the queue goes on')
  })
  mount(writeSync, async ({ params, body }) => {
    const moment = wireTime(now())
    const state = JSON.stringify({ ...body, name: params.name })
    await written(db, [switched(syncSwitch + params.name, state, moment), touched(moment, 'syncs')])
  })
  mount(forgetSync, async ({ params }) => {
    const moment = wireTime(now())
    await written(db, [switched(syncSwitch + params.name, null, moment), touched(moment, 'syncs')])
  })
  mount(confirmScope, async ({ body }) => {
    const found = await confirmReport(db, body, service)
    if (found !== null && found.queued > 0)
      log.info(
        `${body.distribution} ${body.release ?? ''} ${body.architecture}: ${found.queued} jobs were missing and are queued`,
      )
    return { known: found !== null, queued: found?.queued ?? 0 }
  })
  mount(
    listSyncs,
    async () => {
      const rows = await db.all<Switch>(switchesFrom(syncSwitch))
      return rows.map((row) => checked(SyncState, JSON.parse(row.value), 'the state of a sync'))
    },
    revisionOf(service, 'syncs'),
  )
  mount(
    listScopes,
    async ({ query }) => {
      const rows = await scopeRows(db, query.distribution)
      return rows.map((row) => ({ ...row, release: row.release === '' ? null : row.release }))
    },
    revisionOf(service, 'scopes'),
  )
  mount(
    explainPackage,
    ({ query }) => outlooks(db, service.schedule, query),
    alsoOf(revisionOf(service, 'packages', 'queue', 'workers'), service.schedule),
  )
  mount(drain, async ({ params, body }) => {
    const isKnown = await workerDrained(db, {
      id: params.id,
      isDraining: body.draining,
      now: wireTime(now()),
    })
    if (!isKnown) throw notFound()
  })
}
