import type { Client } from '../client.ts'
import { Complaint } from '../errors.ts'
import { printable } from '../log.ts'
import { getDashboard } from '../wire/meta.ts'
import { momentOf } from '../wire/schema.ts'
import { listWorkers, removeWorker, type Free, type Worker } from '../wire/workers.ts'
import { command, flag, type Context } from './command.ts'
import { openAdminClient, openKnownClient, serverOptions } from './credentials.ts'
import { recordsOf } from './lists.ts'
import {
  alignedLines,
  paintFor,
  quoted,
  shownCount,
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
    const client = await openKnownClient(options, context)
    const workers = recordsOf(client, listWorkers, {})
    if (options.json) return writeJsonArray(workers, context.write, context.signal)
    const paint = paintFor(context.colours)
    for await (const worker of workers) context.out(workerLine(worker, paint))
    if (context.isTerminal) await printNumbers(client, paint, context)
  },
)

/** For people, how it stands with verdicts and jobs; programs get the lines they know. */
async function printNumbers(client: Client, paint: Paint, context: Context): Promise<void> {
  const { rebuilds, jobs, reasons } = await client.call(getDashboard)
  const { good, bad, fail, unknown } = rebuilds
  const verdicts = [
    paint.green(`${shownCount(good)} GOOD`),
    paint.red(`${shownCount(bad)} BAD`),
    paint.yellow(`${shownCount(fail)} FAIL`),
    `${shownCount(unknown)} UNKWN`,
  ]
  context.out(`rebuilds: ${verdicts.join(', ')}`)
  const most = Object.entries(reasons).sort(([, a], [, b]) => b - a)
  if (most.length > 0)
    context.out(`reasons: ${most.map(([code, n]) => `${shownCount(n)} ${printable(code)}`).join(', ')}`)
  const { running, available, pending } = jobs
  context.out(
    `jobs: ${shownCount(running)} running, ${shownCount(available)} due, ${shownCount(pending)} due later`,
  )
}

/** `name (address)    => idle`, as rebuildctl prints it; the address is told to administrators only. */
export function workerLine({ name, address, status }: Worker, paint: Paint): string {
  const [place, shownPlace] =
    address === '' ? ['', ''] : [` (${printable(address)})`, ` (${paint.yellow(printable(address))})`]
  const plain = printable(name) + place
  const shown = paint.green(printable(name)) + shownPlace
  const doing = status === null ? paint.blue('idle') : paint.bold(quoted(status))
  return `${shown}${' '.repeat(Math.max(0, 40 - plain.length))} => ${doing}`
}

export const workersLs = command(
  'ctl workers ls',
  'List the workers, those too that do not answer',
  { ...serverOptions, online: flag('Only those that answer'), json: flag('Print one JSON array') },
  async (_, options, context) => {
    const client = await openKnownClient(options, context)
    const workers = thoseOnline(recordsOf(client, listWorkers, {}), options.online)
    if (options.json) return writeJsonArray(workers, context.write, context.signal)
    const paint = paintFor(context.colours)
    const rows: (readonly Cell[])[] = []
    for await (const worker of workers) rows.push(workerRow(worker, new Date(), paint))
    const head = ['ID', 'NAME', 'ADDRESS', 'KEY', 'LAST SEEN', 'FREE', 'DOES'].map((text) => ({
      text,
      as: paint.bold,
    }))
    for (const line of alignedLines(context.isTerminal ? [head, ...rows] : rows, [])) context.out(line)
  },
)

async function* thoseOnline(workers: AsyncIterable<Worker>, online: boolean): AsyncGenerator<Worker> {
  for await (const worker of workers) if (!online || worker.is_online) yield worker
}

function workerRow(worker: Worker, now: Date, paint: Paint): Cell[] {
  const seconds = (now.getTime() - momentOf(worker.last_ping).getTime()) / 1000
  const doing: Cell = worker.is_online
    ? {
        text: [worker.status ?? 'idle', ...heldUp(worker)].join(', '),
        as: isFull(worker) ? paint.red : worker.status === null ? paint.blue : paint.bold,
      }
    : { text: `silent for ${shownSeconds(seconds).trim()}`, as: paint.red }
  return [
    String(worker.id),
    { text: worker.name, as: paint.green },
    { text: worker.address === '' ? '-' : worker.address, as: paint.yellow },
    worker.proven ? { text: 'proven', as: paint.green } : { text: 'unproven', as: paint.faint },
    { text: shownTime(worker.last_ping), as: paint.faint },
    worker.free === null ? '' : freeWords(worker.free),
    doing,
  ]
}

/** Why it gets no other job. */
function heldUp(worker: Worker): string[] {
  return [...(worker.draining ? ['draining'] : []), ...(isFull(worker) ? ['disk nearly full'] : [])]
}

function isFull({ free }: Worker): boolean {
  return free !== null && free.disk_wanted !== undefined && free.disk_free < free.disk_wanted
}

/** `disk 210 GB, memory 12 GB, load 3.1` */
function freeWords({ disk_free, memory_free, load }: Free): string {
  const gigabytes = (bytes: number): string => `${Math.floor(bytes / 1e9)} GB`
  return `disk ${gigabytes(disk_free)}, memory ${gigabytes(memory_free)}, load ${load.toFixed(1)}`
}

export const workersRm = command(
  'ctl workers rm <worker>',
  'Forget a worker, named by its name or number; its job goes back to the queue',
  {
    ...serverOptions,
    forgetKey: flag('Forget also that its key was proven: another program may then use it without a proof'),
  },
  async ([asked], options, context) => {
    const client = await openAdminClient(options, context)
    const worker = await workerNamed(client, asked)
    const query = options.forgetKey ? { forget_key: 'true' as const } : {}
    await client.call(removeWorker, { params: { id: worker.id }, query })
  },
)

/**
 * The worker of that name or number.
 * @throws Complaint where there is none, or more than one
 */
export async function workerNamed(client: Client, asked: string): Promise<Worker> {
  const found: Worker[] = []
  for await (const worker of recordsOf(client, listWorkers, {})) {
    if (worker.name === asked || String(worker.id) === asked) found.push(worker)
  }
  const [worker] = found
  if (worker === undefined || found.length > 1) throw notOne(asked, found)
  return worker
}

function notOne(asked: string, found: readonly Worker[]): Complaint {
  if (found.length === 0)
    return new Complaint(`no worker is called ${asked}`, { hint: '`ctl workers ls` lists them' })
  const numbers = found.map(({ id }) => id).join(', ')
  return new Complaint(`${found.length} workers are called ${asked}`, {
    hint: `name one by its number: ${numbers}`,
  })
}
