/** What a worker costs: memory with large logs and files, time beside the backend, hashing, many jobs at once, live logs. */
import { execFile, spawn } from 'node:child_process'
import {
  chmodSync,
  createReadStream,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { createServer } from 'node:http'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { setTimeout as sleep } from 'node:timers/promises'
import { openClient, type Client } from '../../src/client.ts'
import { getBuild, listBuilds } from '../../src/wire/builds.ts'
import type { ReplyOf } from '../../src/wire/endpoint.ts'
import { submitPackages } from '../../src/wire/packages.ts'
import { dropJob, listQueue, popQueue, watchLog } from '../../src/wire/queue.ts'
import { momentOf } from '../../src/wire/schema.ts'
import { registerWorker } from '../../src/wire/workers.ts'
import { silentLog } from '../../src/log.ts'
import { startFlags } from '../../src/runtime.ts'
import { openWake } from '../../src/worker/wake.ts'
import { compareFiles, digestOf } from '../../src/worker/compare.ts'
import { withScript } from '../help/script.ts'
import { aPackage, aReport, anArtifact } from '../help/server.ts'
import { quantile } from './drive.ts'
import type { Add } from './measure.ts'
import { signupSecret, type ServerProcess } from './process.ts'

const group = 'worker'
const { signal } = new AbortController()
const gigabyte = 1_000_000_000
/** What the build input says is done in a shell. */
const backend = '#!/bin/sh\nsh "$1"\n'

/** Rows about one worker process with one server of ours. */
export async function measureWorker(
  server: ServerProcess,
  folder: string,
  isQuick: boolean,
  add: Add,
): Promise<void> {
  mkdirSync(cache, { recursive: true })
  const state = mkdtempSync(join(cache, 'worker-'))
  try {
    await withScript((script) => measured(server, { folder, state, script }, isQuick, add))
  } finally {
    rmSync(state, { recursive: true, force: true })
  }
}

/** Not below /tmp, where a worker's folder is never: builds have a /tmp of their own. */
const cache = fileURLToPath(new URL('../../.cache/bench/', import.meta.url))

/** Where the bench works, the worker's own folder, and the program that is the worker. */
type Place = { folder: string; state: string; script: string }

async function measured(server: ServerProcess, place: Place, isQuick: boolean, add: Add): Promise<void> {
  const { folder } = place
  mkdirSync(folder, { recursive: true })
  const mirror = createServer((request, response) => {
    const path = join(folder, 'mirror', (request.url ?? '').replaceAll('..', ''))
    if ((statSync(path, { throwIfNoEntry: false })?.size ?? Infinity) < 65_536)
      response.end(readFileSync(path)) // as fast as a mirror that has it in memory
    else
      createReadStream(path)
        .on('error', () => response.writeHead(404).end())
        .pipe(response)
  })
  mirror.listen(0, '127.0.0.1')
  await once(mirror, 'listening')
  const base = `http://127.0.0.1:${(mirror.address() as AddressInfo).port}`
  const archive = anArchive(server, folder, base)
  const size = isQuick ? gigabyte / 10 : gigabyte
  try {
    await measureHashing(folder, add)
    await measureWaiting(server, archive, add)
    await measureJobs(server, archive, place, add)
    await measureMemory(server, archive, place, size, add)
  } finally {
    mirror.closeAllConnections()
    mirror.close()
  }
}

type Archive = { client: Client; publish: (names: readonly string[], lines: string) => Promise<void> }

/** Packages whose original is the file `original`. */
function anArchive(server: ServerProcess, folder: string, base: string): Archive {
  const client = openClient({ base: server.address, cookie: server.cookie })
  mkdirSync(join(folder, 'mirror'))
  writeFileSync(join(folder, 'mirror/original'), 'good bytes')
  return {
    client,
    async publish(names, lines) {
      const packages = names.map((name) => {
        writeFileSync(join(folder, `mirror/${name}.buildinfo`), `${lines}\n# ${name}\n`)
        const artifacts = [anArtifact({ name, url: `${base}/original` })]
        return aPackage({ name, url: `${base}/${name}.buildinfo`, artifacts })
      })
      await client.call(submitPackages, { body: aReport(packages, { release: names[0] ?? '' }) })
    },
  }
}

/** One worker process while some work is done; what it used of memory at most, in megabytes. */
async function withWorker(
  server: ServerProcess,
  { folder, state, script }: Place,
  jobs: number,
  work: () => Promise<void>,
): Promise<number> {
  const path = join(folder, 'backend.sh')
  writeFileSync(path, backend)
  chmodSync(path, 0o755)
  const args = ['worker', 'connect', server.address, '--secret', signupSecret, '--data', state]
  const child = spawn(
    process.execPath,
    [...startFlags, script, ...args, '--backend', `debian=${path}`, '--jobs', String(jobs)],
    { stdio: 'ignore', env: { ...process.env, NO_PROXY: '*' } },
  )
  try {
    await work()
    const status = readFileSync(`/proc/${child.pid}/status`, 'utf8')
    return Number(/^VmHWM:\s+(\d+)/m.exec(status)?.[1]) / 1024
  } finally {
    const ended = once(child, 'exit')
    child.kill('SIGTERM')
    await ended
  }
}

async function untilBuilt({ client }: Archive, names: readonly string[], pause = 20): Promise<number[]> {
  const ids: number[] = []
  for (const name of names) {
    for (;;) {
      const { records } = await client.call(listBuilds, { query: { name } })
      const [found] = records
      if (found !== undefined) {
        if (found.status !== 'GOOD') throw new Error(`${name} became ${found.status} ${found.reason ?? ''}`)
        ids.push(found.id)
        break
      }
      await sleep(pause)
    }
  }
  return ids
}

async function measureHashing(folder: string, add: Add): Promise<void> {
  const [one, other] = [join(folder, 'one'), join(folder, 'other')]
  for (const path of [one, other]) writeFileSync(path, Buffer.alloc(512 * 1024 * 1024, 'some bytes'))
  /** The middle one of five: the first starts a thread, which the others find there. */
  const measure = async (what: string, least: number, work: () => Promise<unknown>): Promise<void> => {
    const rates: number[] = []
    for (let time = 0; time < 5; time++) {
      const { user, system } = process.cpuUsage()
      await work()
      const used = process.cpuUsage({ user, system })
      rates.push(statSync(one).size / 1000 / (used.user + used.system))
    }
    const note = rates.map((rate) => rate.toFixed(2)).join(', ')
    add({ group, what, value: quantile(rates, 0.5), unit: 'GB per CPU s', least, note })
  }
  await measure('compare with SHA-256', 1, () => compareFiles(one, other, { signal }))
  await measure('SHA-256 of a file', 1, () => digestOf(one, { signal }))
  for (const path of [one, other]) writeFileSync(path, '')
}

const waiting = 300

/** Workers without a job that listen for one: what they cost a server, and how soon one of them has it. */
async function measureWaiting(server: ServerProcess, archive: Archive, add: Add): Promise<void> {
  const over = new AbortController()
  const before = server.memory().now
  let pops = 0
  let taken = Promise.withResolvers<number>()
  const listen = async (number: number): Promise<void> => {
    const workerKey = Buffer.alloc(32, `waiting-${number} `).toString('base64')
    const client = openClient({ base: server.address, workerKey, signupSecret })
    await client.call(registerWorker, { body: { name: `waiting-${number}`, tags: [] } })
    const wake = openWake(server.address, silentLog, over.signal)
    const body = {
      supported_backends: ['debian'],
      architecture: 'x86_64',
      supported_architectures: ['amd64'],
    }
    void (async () => {
      for (;;) {
        await wake(over.signal)
        if (over.signal.aborted) return
        const found = await client.call(popQueue, { body })
        pops += 1
        if (found === 'Nothing') continue
        taken.resolve(performance.now())
        await archive.client.call(dropJob, { params: { id: found.Rebuild.job.id } })
      }
    })()
  }
  for (let number = 0; number < waiting; number++) await listen(number)
  await sleep(3000)
  const what = `${waiting} workers that wait`
  add({ group, what, value: (server.memory().now - before) / waiting, unit: 'MB RSS each' })
  const idle = server.cpu()
  await sleep(10_000)
  add({ group, what, value: (server.cpu() - idle) * 10, unit: '% of a CPU' })
  const delays: number[] = []
  const begin = { cpu: server.cpu(), pops }
  for (const name of ['sudden-1', 'sudden-2', 'sudden-3', 'sudden-4', 'sudden-5']) {
    taken = Promise.withResolvers()
    await archive.publish([name], quick)
    const published = performance.now()
    delays.push((await taken.promise) - published)
    await sleep(1000)
  }
  add({
    group,
    what: `a new job until one of ${waiting} has it`,
    value: Math.max(...delays) / 1000,
    unit: 's at most',
    most: 1,
  })
  const each = (1000 * (server.cpu() - begin.cpu)) / delays.length
  const note = `${(pops - begin.pops) / delays.length} questions`
  add({ group, what: `a new job with ${waiting} that wait`, value: each, unit: 'ms CPU of the server', note })
  over.abort()
}

const quick = 'printf "good bytes" > "$REBUILDERD_OUTDIR/original"'

async function measureJobs(server: ServerProcess, archive: Archive, place: Place, add: Add): Promise<void> {
  await withWorker(server, place, 1, async () => {
    await archive.publish(['warm-1', 'warm-2', 'warm-3'], quick)
    await untilBuilt(archive, ['warm-1', 'warm-2', 'warm-3'])
    await measureOverhead(archive, place, add)
    await measureLive(server, archive, add)
  })
  const many = Array.from({ length: 32 }, (_, index) => `many-${index}`)
  const most = await withWorker(server, place, 8, async () => {
    await archive.publish(many, `sleep 1; ${quick}`)
    const begin = performance.now()
    await untilBuilt(archive, many)
    const seconds = (performance.now() - begin) / 1000
    add({
      group,
      what: '32 jobs of a second, 8 at once',
      value: seconds,
      unit: 's',
      note: '4 s of them in builds',
    })
  })
  add({ group, what: '8 jobs at once', value: most, unit: 'MB RSS at most', most: 120 })
}

const rounds = 6
const jobsEach = 12

/**
 * What a job takes beside its backend: from one result to the next, with everything that worker, server and sandbox do
 * for it, less what the same script takes with the same input when something small runs it, in turns with the jobs.
 */
async function measureOverhead(archive: Archive, { folder }: Place, add: Add): Promise<void> {
  const [whole, inside, alone]: [number[], number[], number[]] = [[], [], []]
  for (let round = 0; round < rounds; round++) {
    const names = Array.from({ length: jobsEach }, (_, index) => `serial-${round}-${index}`)
    await archive.publish(names, quick)
    const builds = await buildsOf(archive, await untilBuilt(archive, names, 250))
    const ends = builds
      .flatMap(({ built_at }) => (built_at === null ? [] : momentOf(built_at).getTime()))
      .sort((a, b) => a - b)
    whole.push(...ends.slice(1).map((end, index) => end - (ends[index] ?? end)))
    inside.push(...builds.map(({ evidence }) => 1000 * (evidence?.seconds ?? 0)))
    alone.push(...(await timesAlone(folder, `serial-${round}-0`)))
  }
  const [all, own, bare] = [quantile(whole, 0.5), quantile(inside, 0.5), quantile(alone, 0.5)]
  const mean = whole.reduce((sum, one) => sum + one, 0) / whole.length
  const note = `mean ${mean.toFixed(1)}; medians of ${whole.length}`
  add({ group, what: 'a job in all, sandbox and build included', value: all, unit: 'ms', note })
  add({ group, what: '… of it its backend, by itself', value: bare, unit: 'ms' })
  add({ group, what: '… of it what the sandbox adds to that', value: own - bare, unit: 'ms' })
  add({ group, what: '… of it what the worker does beside', value: all - own, unit: 'ms' })
  add({ group, what: 'a job less its backend by itself', value: all - bare, unit: 'ms', most: 50 })
}

async function buildsOf({ client }: Archive, ids: readonly number[]): Promise<ReplyOf<typeof getBuild>[]> {
  const builds = []
  for (const id of ids) builds.push(await client.call(getBuild, { params: { id } }))
  return builds
}

/** Runs a program and prints the milliseconds that it took, over and over. It is small, so it forks as fast as can be. */
const stopwatch = `use Time::HiRes 'time';
for (1 .. ${jobsEach}) {
  my $begin = time;
  defined(my $child = fork) or die $!;
  if (!$child) { exec @ARGV; exit 127 }
  waitpid $child, 0;
  die "it ended with $?" if $?;
  print 1000 * (time - $begin), "\\n";
}`

/** What the backend takes with the input of a job, without a worker and a sandbox: milliseconds of each run. */
async function timesAlone(folder: string, name: string): Promise<number[]> {
  const outdir = join(folder, `${name}-alone`)
  mkdirSync(outdir)
  const given = [join(folder, 'backend.sh'), join(folder, `mirror/${name}.buildinfo`)]
  const { stdout } = await promisify(execFile)('perl', ['-e', stopwatch, ...given], {
    env: { ...process.env, REBUILDERD_OUTDIR: outdir },
  })
  return stdout.trim().split('\n').map(Number)
}

/** From a line that a build prints to whoever watches. */
async function measureLive(server: ServerProcess, archive: Archive, add: Add): Promise<void> {
  await archive.publish(['live'], `sleep 1; date +%s%N | cut -c1-13; sleep 4; ${quick}`)
  let job: number | undefined
  while (job === undefined) {
    const { records } = await archive.client.call(listQueue, { query: { name: 'live' } })
    job = records.find(({ started_at }) => started_at !== null)?.id
    await sleep(10)
  }
  const path = watchLog.path.replace('{id}', String(job))
  for (;;) {
    const text = await (await fetch(`${server.address}${path}`)).text()
    const [printed] = /\d{13}/.exec(text) ?? []
    if (printed !== undefined) {
      add({
        group,
        what: 'a line until a watcher sees it',
        value: (Date.now() - Number(printed)) / 1000,
        unit: 's',
        most: 1,
      })
      break
    }
    await sleep(10)
  }
  await untilBuilt(archive, ['live'])
}

async function measureMemory(
  server: ServerProcess,
  archive: Archive,
  place: Place,
  size: number,
  add: Add,
): Promise<void> {
  const chatter = 'cc -O2 -Wall -c -o $i.o some/folder/with/a/name/file-$i.c # and more of it'
  const lines = `seq -f "${chatter.replaceAll('$i', '%.0f')}" 100000000 | head -c ${size}; ${quick}`
  const withLog = await withWorker(server, place, 1, async () => {
    await archive.publish(['log'], lines)
    await untilBuilt(archive, ['log'])
  })
  add({ group, what: `log of ${size / 1e6} MB`, value: withLog, unit: 'MB RSS at most', most: 120 })
  const whole = `head -c ${2 * size} /dev/zero`
  await once(spawn('/bin/sh', ['-c', `${whole} > ${join(place.folder, 'mirror/original')}`]), 'exit')
  const withFile = await withWorker(server, place, 1, async () => {
    await archive.publish(['file'], `${whole} > "$REBUILDERD_OUTDIR/original"`)
    await untilBuilt(archive, ['file'])
  })
  add({ group, what: `file of ${(2 * size) / 1e6} MB`, value: withFile, unit: 'MB RSS at most', most: 120 })
}
