import { execFile } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { Complaint } from '../../errors.ts'
import { makeFolders } from '../../folders.ts'
import { openLog, type Log } from '../../log.ts'
import type { Context } from '../command.ts'
import { folderOf } from '../credentials.ts'
import { paintFor } from '../output.ts'
import { requirePackages } from './needs.ts'
import { asDocument, summary } from './show.ts'
import { showLocal, showOfficial, type Scene, type Show } from './shows.ts'
import { openStage, type Stage } from './stage.ts'
import { openTeller, type Teller } from './tell.ts'
import type { Judged } from './watch.ts'

/** Small, and of different kinds: configuration, data, scripts, a compiled program. */
const officialPackages = ['base-files', 'tzdata', 'midge', 'hostname']

type Given = {
  local: boolean
  package: readonly string[]
  once: boolean
  install: boolean
  json: string | undefined
  keep: boolean
}

/**
 * Performs the demonstration, and leaves nothing behind but the cache.
 * @throws Complaint where a Debian package is missing, or an archive cannot be read
 */
export async function perform(given: Given, context: Context): Promise<void> {
  const { local, install, keep } = given
  if (local && given.package.length > 0)
    throw new Complaint('--local and --package exclude each other', { exitCode: 2 })
  const teller = openTeller(context)
  await requirePackages({
    official: !local,
    install,
    isRoot: isRoot(),
    say: teller.say,
    signal: context.signal,
  })
  const folder = await mkdtemp(join(tmpdir(), 'rebuilderd-demo-'))
  try {
    await performIn(folder, given, teller, context)
  } finally {
    teller.quiet()
    if (keep) context.err(`kept: ${folder}`)
    else await rm(folder, { recursive: true, force: true })
  }
}

function showsFor({ local, package: names }: Given): Show[] {
  if (names.length > 0) return [showOfficial(names, { required: true })]
  return local ? [showLocal] : [showLocal, showOfficial(officialPackages, { required: false })]
}

async function performIn(folder: string, given: Given, teller: Teller, context: Context): Promise<void> {
  const log = troubleLog(teller)
  const cache = cacheFolder(context)
  await using stage = await openStage({ folder, cache, architecture: await architecture(), log })
  teller.say(`A server listens at ${stage.server.address}, and a worker has registered.`)
  const signal = AbortSignal.any([context.signal, stage.trouble])
  const scene: Scene = { folder, cache, stage, teller, log, signal, context }
  const judged: Judged[] = []
  try {
    for (const show of showsFor(given)) judged.push(...(await show(scene)))
  } finally {
    teller.quiet()
    await tellAll(judged, stage, given, context)
  }
  if (!given.once) await untilStopped(stage, judged, context)
}

/** Of what server and worker tell, only what went wrong. */
function troubleLog({ say }: Teller): Log {
  return openLog({ level: 'warning', write: (line) => say(`  ${line}`) })
}

/** The table; also when something went wrong after the first verdicts. */
async function tellAll(
  judged: readonly Judged[],
  stage: Stage,
  { json }: Given,
  context: Context,
): Promise<void> {
  if (judged.length === 0) return
  context.out('')
  for (const line of summary(judged, paintFor(context.colours))) context.out(line)
  const document = asDocument(judged, { address: stage.server.address, rebuilt: stage.rebuilt })
  if (json !== undefined) await writeFile(json, `${JSON.stringify(document, null, 2)}\n`)
}

async function untilStopped(
  { server, trouble }: Stage,
  judged: readonly Judged[],
  { out, signal }: Context,
): Promise<void> {
  const good = judged.find((one) => one.source.status === 'GOOD')
  const ctl = `${typed(process.argv[1])} ctl -H ${server.address}`
  out(
    `\nThe server stays: open ${server.address} in a browser. Ctrl-C ends it. In another terminal, for example:`,
  )
  out(`  ${ctl} pkgs ls`)
  if (good !== undefined) out(`  ${ctl} pkgs attestation ${good.artifacts[0]?.name}`)
  const either = AbortSignal.any([signal, trouble])
  await new Promise<void>((resolve) => {
    if (either.aborted) resolve()
    either.addEventListener('abort', () => resolve(), { once: true })
  })
  if (trouble.aborted) throw trouble.reason
}

/** How the program is called from this folder: who starts the demo from the sources has it nowhere else. */
function typed(script: string | undefined): string {
  return script?.endsWith('/src/main.ts') === true ? 'npm start -s --' : 'rebuilderd'
}

function cacheFolder({ environment }: Context): string {
  const own = join(folderOf(environment, 'XDG_CACHE_HOME', '.cache'), 'rebuilderd')
  const folder = isRoot() ? '/var/cache/rebuilderd' : own
  try {
    makeFolders(folder, 0o700)
  } catch (error) {
    throw new Complaint(`cannot keep build roots and downloads in ${folder}`, {
      cause: error,
      hint: 'XDG_CACHE_HOME names another folder',
    })
  }
  return folder
}

async function architecture(): Promise<string> {
  const { stdout } = await promisify(execFile)('dpkg', ['--print-architecture'])
  return stdout.trim()
}

function isRoot(): boolean {
  return process.getuid?.() === 0
}
