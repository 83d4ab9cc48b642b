import { printable } from '../log.ts'
import { momentOf } from '../wire/schema.ts'
import { listWorkers, type Worker } from '../wire/workers.ts'
import { command, flag } from './command.ts'
import { openPublicClient, serverOptions } from './credentials.ts'
import { recordsOf } from './lists.ts'
import {
  alignedLines,
  paintFor,
  quoted,
  shownSeconds,
  shownTime,
  writeJsonArray,
  type Cell,
  type Paint,
} from './output.ts'

export const status = command(
  'ctl status',
  'Show what the workers do',
  { ...serverOptions, json: flag('Print one JSON array') },
  async (_, options, context) => {
    const client = await openPublicClient(options, context)
    const workers = recordsOf(client, listWorkers, {})
    if (options.json) return writeJsonArray(workers, context.write, context.signal)
    const paint = paintFor(context.colours)
    for await (const worker of workers) context.out(workerLine(worker, paint))
  },
)

/** `name (address)    => idle`, as rebuildctl prints it. */
export function workerLine({ name, address, status }: Worker, paint: Paint): string {
  const plain = `${printable(name)} (${printable(address)})`
  const shown = `${paint.green(printable(name))} (${paint.yellow(printable(address))})`
  const doing = status === null ? paint.blue('idle') : paint.bold(quoted(status))
  return `${shown}${' '.repeat(Math.max(0, 40 - plain.length))} => ${doing}`
}

export const workersLs = command(
  'ctl workers ls',
  'List the workers, those too that do not answer',
  { ...serverOptions, online: flag('Only those that answer'), json: flag('Print one JSON array') },
  async (_, options, context) => {
    const client = await openPublicClient(options, context)
    const workers = thoseOnline(recordsOf(client, listWorkers, {}), options.online)
    if (options.json) return writeJsonArray(workers, context.write, context.signal)
    const paint = paintFor(context.colours)
    const rows: (readonly Cell[])[] = []
    for await (const worker of workers) rows.push(workerRow(worker, new Date(), paint))
    const head = ['ID', 'NAME', 'ADDRESS', 'LAST SEEN', 'DOES'].map((text) => ({ text, as: paint.bold }))
    for (const line of alignedLines(context.isTerminal ? [head, ...rows] : rows, [])) context.out(line)
  },
)

async function* thoseOnline(workers: AsyncIterable<Worker>, online: boolean): AsyncGenerator<Worker> {
  for await (const worker of workers) if (!online || worker.is_online) yield worker
}

function workerRow(worker: Worker, now: Date, paint: Paint): Cell[] {
  const seconds = (now.getTime() - momentOf(worker.last_ping).getTime()) / 1000
  const doing: Cell = worker.is_online
    ? { text: worker.status ?? 'idle', as: worker.status === null ? paint.blue : paint.bold }
    : { text: `silent for ${shownSeconds(seconds).trim()}`, as: paint.red }
  return [
    String(worker.id),
    { text: worker.name, as: paint.green },
    { text: worker.address, as: paint.yellow },
    { text: shownTime(worker.last_ping), as: paint.faint },
    doing,
  ]
}
