import { once } from 'node:events'
import { startThread } from '../assets.ts'
import { Complaint } from '../errors.ts'
import { submitPackages } from '../wire/packages.ts'
import { parsedBody, wholeRelease } from './body.ts'
import type { ImportData, ImportOutcome } from './import-thread.ts'
import { importReport, type ImportOptions, type ImportResult } from './imports.ts'
import { Refusal } from './refusal.ts'
import type { Database } from './store/database.ts'
import { errorOf } from './store/failure.ts'

/** Bytes of a report from which on a thread of its own takes it: reading it would keep everybody else waiting. */
const large = 512 * 1024

/**
 * Checks and applies a package report. A large one is read in a thread of its own.
 * @param bytes the report as JSON
 * @throws Refusal where it is not one, or lists far fewer packages than the last one
 */
export async function importBytes(
  db: Database,
  bytes: Uint8Array,
  options: ImportOptions,
): Promise<ImportResult> {
  if (bytes.length < large)
    return importReport(db, await parsedBody(submitPackages.body, bytes, wholeRelease), options)
  const { now, ...plain } = options
  const port = await db.port()
  const isOwn = bytes.byteLength === bytes.buffer.byteLength && bytes.buffer instanceof ArrayBuffer
  const own = isOwn ? (bytes as Uint8Array<ArrayBuffer>) : new Uint8Array(bytes) // a buffer that nobody else looks into
  const data: ImportData = { bytes: own, port, options: plain, ahead: now().getTime() - Date.now() }
  const thread = startThread('import', data, [own.buffer, port])
  const [outcome] = (await Promise.race([once(thread, 'message'), endOf(thread)])) as [ImportOutcome] // it sends nothing else
  if ('result' in outcome) return outcome.result
  if ('refused' in outcome) throw new Refusal(outcome.refused.status, outcome.refused.text)
  throw errorOf(outcome)
}

/** A thread that ends without a word has not done its work. */
async function endOf(thread: ReturnType<typeof startThread>): Promise<never> {
  await once(thread, 'exit')
  throw new Complaint('the package report could not be taken', { hint: 'is the memory of the machine full?' })
}
