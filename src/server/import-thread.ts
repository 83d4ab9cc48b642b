/** The thread that takes one large package report: what it holds meanwhile goes with it, and nobody waits for it. */
import { parentPort, workerData, type MessagePort } from 'node:worker_threads'
import { importReport, type ImportOptions, type ImportResult } from './imports.ts'
import { Refusal, type RefusalStatus } from './refusal.ts'
import { reportIn } from './report-parts.ts'
import { failureOf, type Failure } from './store/failure.ts'
import { databaseAt } from './store/sqlite.ts'

export type ImportData = {
  bytes: Uint8Array<ArrayBuffer>
  /** Way to the database. */
  port: MessagePort
  options: Omit<ImportOptions, 'now'>
  /** Milliseconds that the server's clock is ahead of the machine's. */
  ahead: number
}
export type ImportOutcome =
  { result: ImportResult } | { refused: { status: RefusalStatus; text: string } } | Failure

async function outcomeOf({ bytes, port, options, ahead }: ImportData): Promise<ImportOutcome> {
  try {
    const report = await reportIn(bytes)
    bytes.buffer.transferToFixedLength(0) // it is large, and nobody looks at it any more
    const now = (): Date => new Date(Date.now() + ahead)
    return { result: await importReport(databaseAt(port), report, { ...options, now }) }
  } catch (error) {
    if (error instanceof Refusal) return { refused: { status: error.status, text: error.message } }
    return failureOf(error)
  } finally {
    port.close()
  }
}

const main = parentPort
if (main !== null) void outcomeOf(workerData as ImportData).then((outcome) => main.postMessage(outcome))
