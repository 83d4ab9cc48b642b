import { chmodSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { openClient, type Client } from '../../src/client.ts'
import { listBuilds } from '../../src/wire/builds.ts'
import { submitPackages, type PackageReport } from '../../src/wire/packages.ts'
import { seeded } from '../bench/data.ts'
import { startProcess, type ServerProcess } from '../bench/process.ts'
import { processesWith } from '../help/machine.ts'
import { aLastingPort } from '../help/ports.ts'
import { aPackage, aReport, anArtifact } from '../help/server.ts'
import { patienceMilliseconds, until } from '../help/until.ts'
import { paced, type FaultReport, type Goal } from './report.ts'
import { aRootedJob, anArchiveOfRoots, lacksRoots, rootedBackend, unfinishedRoots } from './roots.ts'
import {
  entriesOf,
  leftBy,
  openedBy,
  startMirror,
  startProxy,
  startWorker,
  trapHolder,
  type Moment,
  type WorkerProcess,
} from './stage.ts'

type Victim = 'worker' | 'backend' | 'diffoscope' | 'server'
type Step = {
  victim: Victim
  when: string
  moment: Moment
  isFresh?: boolean
  job?: JobKind
  /** Of a build, the process that has this in its command line is killed. */
  who?: string
}
/** What is odd about a job; else the build is short, its result small, and every third one BAD. */
type JobKind = {
  isSlow?: boolean
  isBad?: boolean
  /** Comparing its files takes a while. */
  isLarge?: boolean
  /** Removing its folder takes a while. */
  isMany?: boolean
  /** Its worker runs diffoscope. */
  isExplained?: boolean
  /** A build root is made for it. */
  isRooted?: boolean
}

const jobsOf = (data: string): string[] =>
  entriesOf(join(data, 'jobs')).map((name) => join(data, 'jobs', name))
const hasJob = (has: (job: string) => boolean): Moment => ({ folder: (data) => jobsOf(data).some(has) })
const inJob = (path: string): Moment => hasJob((job) => existsSync(join(job, path)))
const spooled = (end: string): Moment => ({
  folder: (data) =>
    entriesOf(join(data, 'spool')).some((server) =>
      entriesOf(join(data, 'spool', server)).some((name) => name.endsWith(end)),
    ),
})
const asks = (pattern: RegExp, side: 'before' | 'after'): Moment => ({ asks: pattern, side })
const pop = /^POST .*\/queue\/pop/
const report = /^POST .*\/builds/
const differing: JobKind = { isBad: true, isExplained: true }
/** Its result is in safety, and of its folder a part is gone. */
const isBeingRemoved = (job: string): boolean =>
  existsSync(join(job, 'build/out')) &&
  !existsSync(join(job, 'job.json')) &&
  [1, 2, 3, 5000, 10_000, 15_000, 20_000].some((name) => !existsSync(join(job, `build/out/${name}`)))
const piece = /^POST .*\/queue\/\d+\/log/

/** A job from its first question to its last trace. The first ones are those of the short run. */
const steps: readonly Step[] = [
  {
    victim: 'worker',
    when: 'its job is on its way to it',
    moment: { asks: pop, side: 'after', answer: 'Rebuild' },
  },
  { victim: 'worker', when: 'the build runs', moment: { prints: 'half way' } },
  { victim: 'backend', when: 'it builds', moment: { prints: 'half way' } },
  { victim: 'worker', when: 'its result was taken unheard', moment: asks(report, 'after') },
  { victim: 'server', when: 'a result comes', moment: asks(report, 'before') },
  { victim: 'worker', when: 'its result is on disk', moment: spooled('.json') },
  { victim: 'worker', when: 'it asks for a challenge', moment: asks(/challenge/, 'before'), isFresh: true },
  { victim: 'worker', when: 'it registers', moment: asks(/^POST .*\/workers$/, 'before'), isFresh: true },
  { victim: 'worker', when: 'it is registered', moment: asks(/^POST .*\/workers$/, 'after'), isFresh: true },
  { victim: 'worker', when: 'it asks for a job', moment: asks(pop, 'before') },
  { victim: 'worker', when: 'its folder is made', moment: hasJob(() => true) },
  { victim: 'worker', when: 'its note is written', moment: inJob('job.json') },
  { victim: 'worker', when: 'half of the original has come', moment: { fetches: '.deb' } },
  { victim: 'worker', when: 'half of the input has come', moment: { fetches: '.buildinfo' } },
  { victim: 'worker', when: 'the folders of the build are made', moment: inJob('build/tools') },
  { victim: 'worker', when: 'the input is copied', moment: inJob('build/tools/sandbox.pl') },
  { victim: 'worker', when: 'the build has begun', moment: { prints: 'begins' } },
  {
    victim: 'worker',
    when: 'a piece of the log is on its way',
    moment: asks(piece, 'before'),
    job: { isSlow: true },
  },
  {
    victim: 'worker',
    when: 'a piece of the log was taken',
    moment: asks(piece, 'after'),
    job: { isSlow: true },
  },
  { victim: 'worker', when: 'the outputs are there', moment: { prints: 'all made' } },
  {
    victim: 'worker',
    when: 'the build is over',
    moment: hasJob((job) => existsSync(join(job, 'build/out')) && !existsSync(join(job, 'build/home'))),
  },
  {
    victim: 'worker',
    when: 'it compares files that are equal',
    moment: { opens: '/build/out/' },
    job: { isLarge: true, isBad: false },
  },
  {
    victim: 'worker',
    when: 'it hashes files that differ',
    moment: { opens: '/build/out/' },
    job: { isLarge: true, isBad: true },
  },
  {
    victim: 'worker',
    when: 'diffoscope is made ready',
    moment: hasJob((job) => entriesOf(job).some((name) => name.startsWith('diffoscope-'))),
    job: differing,
  },
  { victim: 'worker', when: 'diffoscope runs', moment: { runs: 'REBUILDERD_JOB=' }, job: differing },
  { victim: 'diffoscope', when: 'it runs', moment: { runs: 'REBUILDERD_JOB=' }, job: differing },
  {
    victim: 'worker',
    when: 'the folder of its job is removed',
    moment: hasJob(isBeingRemoved),
    job: { isMany: true },
  },
  { victim: 'worker', when: 'half of its result is on disk', moment: spooled('.part') },
  { victim: 'worker', when: 'its result is on its way', moment: asks(report, 'before') },
  { victim: 'backend', when: 'it begins', moment: { prints: 'begins' } },
  { victim: 'backend', when: 'its outputs are there', moment: { prints: 'all made' } },
  { victim: 'backend', when: 'its folders are made', moment: inJob('build/home/ready') },
  { victim: 'server', when: 'a worker asks for a job', moment: asks(pop, 'before') },
  { victim: 'server', when: 'a job is on its way', moment: { asks: pop, side: 'after', answer: 'Rebuild' } },
  {
    victim: 'server',
    when: 'a worker asks for a challenge',
    moment: asks(/challenge/, 'after'),
    isFresh: true,
  },
  {
    victim: 'server',
    when: 'a worker registers',
    moment: asks(/^POST .*\/workers$/, 'before'),
    isFresh: true,
  },
  { victim: 'server', when: 'a worker downloads', moment: { fetches: '.deb' } },
  { victim: 'server', when: 'a build runs', moment: { prints: 'half way' } },
  { victim: 'server', when: 'a piece of a log comes', moment: asks(piece, 'before'), job: { isSlow: true } },
  { victim: 'server', when: 'a result was taken unheard', moment: asks(report, 'after') },
]

/** The same where the Debian backend has mmdebstrap make a build root, in which dpkg installs packages. */
const installing: Moment = { runs: 'REBUILDERD_OUTDIR=', as: 'dpkg\0--install' }
const rooted = { moment: installing, job: { isRooted: true, isBad: false } }
const rootSteps: readonly Step[] = [
  { victim: 'worker', when: 'packages are installed in its build root', ...rooted },
  { victim: 'backend', when: 'packages are installed in its build root', who: 'dpkg\0--install', ...rooted },
  { victim: 'backend', when: 'mmdebstrap has packages installed', who: '/usr/bin/mmdebstrap', ...rooted },
  { victim: 'backend', when: 'its build root is made', who: 'sandbox.pl', ...rooted },
]

/** It leaves children, mounts and groups behind wherever it may. */
const backend = `#!/bin/sh
read seconds bytes files < "$1"
echo begins; : > "$HOME/ready"
mount -t tmpfs left-over /mnt 2> /dev/null
setsid sh -c 'setsid sleep 7654 & sleep 7654' &
sleep "$seconds"; echo half way; sleep 0.2
tail -n +2 "$1" > "$REBUILDERD_OUTDIR/$REBUILDERD_ARTIFACTS"
head -c "$bytes" /dev/zero >> "$REBUILDERD_OUTDIR/$REBUILDERD_ARTIFACTS"
[ "$files" = 0 ] || seq "$files" | (cd "$REBUILDERD_OUTDIR" && xargs touch)
echo all made; sleep 0.1
`
/** What a build root takes in addition, on a machine that has much else to do. */
const rootPatience = patienceMilliseconds
const largeBytes = 64_000_000
const manyFiles = 20_000

/**
 * Kills a worker, its builds and its server with SIGKILL at every step of a job, the first time of each round at the
 * steps in their order, later at any time. Each job has to come to one verdict, and nothing may be left over.
 * @param script the program to run in place of the source tree
 */
export async function workerKillings(kills: Goal, script?: string): Promise<FaultReport> {
  const folder = await mkdtemp(join(tmpdir(), 'rebuilderd-kill-'))
  const stage = await openStage(folder, script)
  const losses: string[] = []
  const named = [...steps, ...(lacksRoots === false && kills.least > steps.length ? rootSteps : [])]
  const killed: Record<Victim, number> = { worker: 0, backend: 0, diffoscope: 0, server: 0 }
  const random = seeded(kills.most)
  const goesOn = paced(kills)
  let slowest = 0
  try {
    for (let number = 1; goesOn(number - 1) && losses.length < 5; number++) {
      const known = named[number - 1] ?? (number % 3 === 0 ? anyTime(random) : steps[number % steps.length])
      if (known === undefined) break
      const begin = performance.now()
      losses.push(...(await oneKill(stage, number, known)))
      slowest = Math.max(slowest, performance.now() - begin)
      killed[known.victim] += 1
    }
    losses.push(...(await wrongVerdicts(stage)))
  } finally {
    await stage.close()
    await rm(folder, { recursive: true, force: true })
  }
  const counts = {
    'kills of the worker': killed.worker,
    'of builds': killed.backend,
    'of diffoscope': killed.diffoscope,
    'of the server': killed.server,
    'of them while a build root was made': stage.rooted(),
    jobs: stage.wanted.size,
    'attempts recorded': stage.attempts(),
    'workers started': stage.pids.length,
    'mounts, groups, processes and folders left': losses.filter((loss) => loss.includes('left')).length,
    'longest until the verdict in s': Math.round(slowest / 1000),
  }
  return { name: 'kill -9 of worker, build and server at every step of a job', counts, losses }
}

function anyTime(random: () => number): Step {
  const victim = (['worker', 'backend', 'server'] as const)[Math.floor(random() * 3)] ?? 'worker'
  const milliseconds = Math.round(random() * 900)
  const due = { at: 0 }
  const folder = (data: string): boolean => {
    if (due.at === 0 && jobsOf(data).length > 0) due.at = performance.now() + milliseconds
    return due.at > 0 && performance.now() > due.at
  }
  return { victim, when: `${milliseconds} ms have passed`, moment: { folder } }
}

type Stage = {
  folder: string
  traps: ReturnType<typeof trapHolder>
  /** Every worker that was started. */
  pids: number[]
  /** The verdict of each package. */
  wanted: Map<string, 'GOOD' | 'BAD'>
  client: () => Client
  /** `again`: how often one of this number has missed its moment. */
  add: (number: number, kind: JobKind, again: number) => Promise<string>
  attempts: () => number
  /** Jobs for which a build root was made. */
  rooted: () => number
  count: (n: number) => void
  worker: () => WorkerProcess
  startWorker: (kind: JobKind) => void
  killServer: () => Promise<void>
  close: () => Promise<void>
}

async function openStage(folder: string, script: string | undefined): Promise<Stage> {
  const traps = trapHolder()
  const data = join(folder, 'server')
  const [config, plain, explained, path] = [
    join(folder, 'server.toml'),
    join(folder, 'worker.toml'),
    join(folder, 'explained.toml'),
    join(folder, 'backend.sh'),
  ]
  mkdirSync(join(folder, 'tmp'))
  writeFileSync(config, '[schedule]\ninfrastructure_retry_minutes = 0\n')
  writeFileSync(path, backend)
  chmodSync(path, 0o755)
  let server: ServerProcess = await startProcess({ data, config, port: await aLastingPort(), script })
  const port = Number(new URL(server.address).port)
  const files = new Map<string, string | Buffer>()
  const proxy = await startProxy(() => server.address, traps)
  const mirror = await startMirror(files, traps)
  const settings = rootedBackend(`${mirror.base}/archive`)
  writeFileSync(plain, settings)
  writeFileSync(explained, `[diffoscope]\nenabled = true\n${settings}`)
  const pids: number[] = []
  const wanted = new Map<string, 'GOOD' | 'BAD'>()
  const start = ({ isExplained = false }: JobKind): WorkerProcess => {
    const config = isExplained ? explained : plain
    const started = startWorker({ base: proxy.base, folder, backend: path, config, script }, traps)
    pids.push(started.pid)
    return started
  }
  let worker = start({})
  let attempts = 0
  const over = new AbortController()
  const looking = lookInto({ data: join(folder, 'worker'), pid: () => worker.pid }, traps, over.signal)
  const client = (): Client =>
    openClient({ base: server.address, cookie: server.cookie, timeout: patienceMilliseconds })
  const submit = async (body: PackageReport): Promise<void> => {
    await until(
      () =>
        client()
          .call(submitPackages, { body })
          .then(
            () => true,
            () => false, // it is being killed
          ),
      'an import',
    )
  }
  let roots = 0
  const addRooted = async (name: string): Promise<string> => {
    if (roots++ === 0) {
      const archive = await anArchiveOfRoots(join(folder, 'archive'), rootSteps.length)
      for (const [path, bytes] of archive) files.set(`/archive/${path}`, bytes)
    }
    const job = aRootedJob(name, roots)
    for (const [path, text] of job.files) files.set(`/${path}`, text)
    const [url, original] = [`/${name}_1.0_all.buildinfo`, `/${name}_1.0_all.deb`]
    files.set(original, job.made)
    wanted.set(name, 'GOOD')
    const of = { name, version: '1.0', architecture: 'all' }
    const artifacts = [anArtifact({ ...of, url: `${mirror.base}${original}` })]
    const one = aPackage({ ...of, url: `${mirror.base}${url}`, artifacts })
    await submit(aReport([one], { distribution: 'rooted', release: name }))
    return name
  }
  return {
    folder,
    traps,
    pids,
    wanted,
    client,
    attempts: () => attempts,
    rooted: () => roots,
    count: (n) => (attempts = n),
    worker: () => worker,
    startWorker: (kind) => (worker = start(kind)),
    async add(number, { isSlow, isBad = number % 3 === 0, isLarge, isMany, isRooted }, again) {
      const name = `tiny-${number}${again === 0 ? '' : `-${again}`}`
      if (isRooted === true) return addRooted(name)
      const bytes = isLarge === true ? largeBytes : 0
      wanted.set(name, isBad ? 'BAD' : 'GOOD')
      const original = isBad ? 'made of something else\n' : `made of ${name}\n`
      const orders = [isSlow === true ? 1.5 : 0.1, bytes, isMany === true ? manyFiles : 0].join(' ')
      files.set(`/${name}.deb`, original + '\0'.repeat(bytes))
      files.set(`/${name}.buildinfo`, `${orders}\nmade of ${name}\n`)
      const artifacts = [anArtifact({ name, url: `${mirror.base}/${name}.deb` })]
      const one = aPackage({ name, url: `${mirror.base}/${name}.buildinfo`, artifacts })
      await submit(aReport([one], { release: name }))
      return name
    },
    async killServer() {
      await server.kill('SIGKILL')
      server = await startProcess({ data, config, script, port })
    },
    async close() {
      over.abort()
      await looking
      await worker.kill()
      await server.kill('SIGTERM')
      proxy.close()
      mirror.close()
    },
  }
}

/** Looks whether the worker and its folder are as a trap waits for. */
async function lookInto(
  { data, pid }: { data: string; pid: () => number },
  traps: ReturnType<typeof trapHolder>,
  signal: AbortSignal,
): Promise<void> {
  while (!signal.aborted) {
    const isIt = (moment: Moment): boolean =>
      ('folder' in moment && moment.folder(data)) ||
      ('opens' in moment && openedBy(pid()).some((path) => path.includes(moment.opens))) ||
      ('runs' in moment &&
        processesWith(moment.runs + data).some((id) => commandLineOf(id).includes(moment.as ?? '')))
    if (traps.isSet()) void traps.springIf(isIt)
    await sleep(traps.isSet() ? 1 : 20)
  }
}

/** One kill, and what was not as it should be afterwards. */
async function oneKill(stage: Stage, number: number, step: Step): Promise<string[]> {
  const { traps } = stage
  const told = (why: string): string => `kill ${number}, of the ${step.victim} when ${step.when}: ${why}`
  let spring = (): void => undefined
  const sprung = new Promise<void>((resolve) => (spring = resolve))
  const { job = {}, isFresh = job.isExplained ?? false } = step
  if (isFresh) await stage.worker().kill()
  let after: Promise<void> = Promise.resolve()
  traps.set({
    moment: step.moment,
    async spring() {
      if (step.victim === 'server') after = stage.killServer()
      else if (step.victim === 'worker') await stage.worker().kill()
      else
        killBuild(stage, number, step.victim === 'backend' ? 'REBUILDERD_OUTDIR' : 'REBUILDERD_JOB', step.who)
      spring()
    },
  })
  let name = await stage.add(number, job, 0)
  if (isFresh) stage.startWorker(job)
  let isSprung = false
  for (let again = 1; !isSprung && again < mostMisses; again++) {
    let over = false
    isSprung = await Promise.race([
      sprung.then(() => true),
      untilSettled(stage, name, patienceWith(job), () => over).then(() => false),
    ])
    over = true
    if (!isSprung && job.isRooted !== true) name = await stage.add(number, job, again) // it was over before we looked
  }
  traps.set(null)
  if (!isSprung) return [told('that moment never came')]
  await after
  if (step.victim === 'worker') stage.startWorker(job)
  const trouble = await untilSettled(stage, name, patienceWith(job))
  return trouble.map(told)
}

/** Some moments are as short as the machine is fast: whoever looks too late has another job built. */
const mostMisses = 20

function patienceWith({ isRooted = false }: JobKind): number {
  return isRooted ? patienceMilliseconds + rootPatience : patienceMilliseconds
}

/**
 * A program by its name, or in turn the first process of the sandbox, the one that makes sandboxes, and any process of
 * the program in it, by the mark of all of them.
 */
function killBuild({ folder, worker }: Stage, number: number, mark: string, who = ''): void {
  const childOf = (parent: number | undefined, text: string): number | undefined =>
    processesWith(text)
      .map(Number)
      .find((id) => parentOf(id) === parent)
  const maker = childOf(worker().pid, 'rebuilderd-sandboxes')
  const first = childOf(maker, join(folder, 'worker/jobs'))
  const all = processesWith(`${mark}=${join(folder, 'worker')}`)
  const ids = all.filter((id) => commandLineOf(id).includes(who)).map(Number)
  const id = who === '' ? [first, maker, ids[number % Math.max(1, ids.length)]][number % 3] : ids[0]
  try {
    if (id !== undefined) process.kill(id, 'SIGKILL')
  } catch {
    // It has just ended by itself.
  }
}

function commandLineOf(id: string): string {
  try {
    return readFileSync(`/proc/${id}/cmdline`, 'latin1')
  } catch {
    return ''
  }
}

function parentOf(id: number): number {
  try {
    return Number(/^PPid:\t(\d+)$/m.exec(readFileSync(`/proc/${id}/status`, 'utf8'))?.[1])
  } catch {
    return 0
  }
}

async function verdictsOf(stage: Stage, name: string): Promise<string[]> {
  const { records } = await stage.client().call(listBuilds, { query: { name, limit: 1000 } })
  stage.count(Math.max(stage.attempts(), ...records.map(({ id }) => id)))
  return records.map(({ status }) => status).filter((status) => status === 'GOOD' || status === 'BAD')
}

/** Waits until a job has its verdict and nothing of it is left. */
async function untilSettled(
  stage: Stage,
  name: string,
  milliseconds: number,
  isOver = (): boolean => false,
): Promise<string[]> {
  const end = performance.now() + milliseconds
  let trouble: string[] = []
  while (performance.now() < end && !isOver()) {
    const { child, pid, said } = stage.worker()
    if (child.exitCode !== null) return [`the worker ended by itself: ${said().slice(-500)}`]
    const verdicts = await verdictsOf(stage, name).catch(() => [])
    trouble =
      verdicts.length === 0 // all processes of the machine are looked at: once there is a verdict is early enough
        ? [`${name} has no verdict; ${said().slice(-600)}`]
        : leftBy(stage.pids, stage.folder, pid)
            .concat(unfinishedRoots(join(stage.folder, 'worker')).map((root) => `build root ${root}`))
            .map((what) => `left: ${what}`)
    if (trouble.length === 0) return []
    await sleep(100)
  }
  return trouble
}

/** Every package has one verdict, and the right one. */
async function wrongVerdicts(stage: Stage): Promise<string[]> {
  const wrong: string[] = []
  for (const [name, status] of stage.wanted) {
    const verdicts = await verdictsOf(stage, name)
    if (verdicts.length !== 1 || verdicts[0] !== status)
      wrong.push(`${name} should be ${status} once, and is ${verdicts.join(', ')}`)
  }
  return wrong
}
