import type { Client } from '../client.ts'
import { Complaint, didYouMean } from '../errors.ts'
import { printable } from '../log.ts'
import { getDashboard } from '../wire/meta.ts'
import { momentOf } from '../wire/schema.ts'
import { listWorkers, removeWorker, type Free, type Worker } from '../wire/workers.ts'
import { command, flag, type Context } from './command.ts'
import { openAdminClient, openKnownClient, serverOptions } from './credentials.ts'
import { folded } from './help.ts'
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
    let shown = 0
    for await (const worker of workers) {
      context.out(workerLine(worker, paint))
      shown++
    }
    if (shown === 0) tellNone(client, context)
    if (context.isTerminal) await printNumbers(client, paint, context)
  },
)

/** Programs that read the lines get none. */
function tellNone({ base }: Client, context: Context): void {
  context.err(
    `no worker has registered yet; on a machine that is to build: rebuilderd worker --secret SECRET ${printable(base)}`,
  )
}

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
function workerLine({ name, address, status }: Worker, paint: Paint): string {
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
    const rows: WorkerCells[] = []
    for await (const worker of workers) rows.push(workerCells(worker, new Date(), paintFor(context.colours)))
    if (rows.length === 0 && !options.online) return tellNone(client, context)
    for (const line of workerLines(rows, context)) context.out(line)
  },
)

/** A table; where the terminal is too narrow for that, what matters most as a table and the rest below each row. */
function workerLines(rows: readonly WorkerCells[], { isTerminal, columns, colours }: Context): string[] {
  const order = ['id', 'name', 'address', 'key', 'seen', 'free', 'does'] as const
  const heads = {
    id: 'ID',
    name: 'NAME',
    address: 'ADDRESS',
    key: 'KEY',
    seen: 'LAST SEEN',
    free: 'FREE',
    does: 'DOES',
  }
  const paint = paintFor(colours)
  const head = (name: (typeof order)[number]): Cell => ({ text: heads[name], as: paint.bold })
  const whole = rows.map((row) => order.map((name) => row[name]))
  if (!isTerminal) return alignedLines(whole, [])
  const widths: number[] = []
  const lines = alignedLines([order.map(head), ...whole], widths)
  if (widths.reduce((sum, width) => sum + width + 2, -2) <= columns) return lines
  const short = ['id', 'name', 'does'] as const
  const [title = '', ...firsts] = alignedLines(
    [short.map(head), ...rows.map((row) => short.map((name) => row[name]))],
    [],
  )
  return [title, ...rows.flatMap((row, i) => [firsts[i] ?? '', ...moreLines(row, columns, paint)])]
}

/** What a row has no room for, folded between its words. */
function moreLines({ address, key, seen, free }: WorkerCells, columns: number, paint: Paint): string[] {
  const words = [key.text, address.text === '-' ? '' : `at ${address.text}`, `seen ${seen.text}`, free.text]
  const text = printable(words.filter((word) => word !== '').join(', '))
  return folded(text, columns - 4).map((line) => `    ${paint.faint(line)}`)
}

async function* thoseOnline(workers: AsyncIterable<Worker>, online: boolean): AsyncGenerator<Worker> {
  for await (const worker of workers) if (!online || worker.is_online) yield worker
}

type Shown = Exclude<Cell, string>
type WorkerCells = Record<'id' | 'name' | 'address' | 'key' | 'seen' | 'free' | 'does', Shown>

function workerCells(worker: Worker, now: Date, paint: Paint): WorkerCells {
  const seconds = (now.getTime() - momentOf(worker.last_ping).getTime()) / 1000
  const as = (text: string, look: Shown['as'] = (plain) => plain): Shown => ({ text, as: look })
  const busy = worker.status === null ? paint.blue : paint.bold
  return {
    id: as(String(worker.id)),
    name: as(worker.name, paint.green),
    address: as(worker.address === '' ? '-' : worker.address, paint.yellow),
    key: worker.proven ? as('proven', paint.green) : as('unproven', paint.faint),
    seen: as(shownTime(worker.last_ping), paint.faint),
    free: as(worker.free === null ? '' : freeWords(worker.free)),
    does: worker.is_online
      ? as([worker.status ?? 'idle', ...heldUp(worker)].join(', '), isFull(worker) ? paint.red : busy)
      : as(`silent for ${shownSeconds(seconds).trim()}`, paint.red),
  }
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
  const names = new Set<string>()
  for await (const worker of recordsOf(client, listWorkers, {})) {
    names.add(worker.name)
    if (worker.name === asked || String(worker.id) === asked) found.push(worker)
  }
  const [worker] = found
  if (worker === undefined || found.length > 1) throw notOne(asked, found, names)
  return worker
}

function notOne(asked: string, found: readonly Worker[], names: ReadonlySet<string>): Complaint {
  if (found.length === 0)
    return new Complaint(`no worker is called ${asked}`, {
      hint: didYouMean(asked, names) ?? '`ctl workers ls` lists them',
    })
  const numbers = found.map(({ id }) => id).join(', ')
  return new Complaint(`${found.length} workers are called ${asked}`, {
    hint: `name one by its number: ${numbers}`,
  })
}
