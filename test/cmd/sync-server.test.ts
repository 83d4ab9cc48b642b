import assert from 'node:assert/strict'
import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import { submitBuild } from '../../src/wire/builds.ts'
import { dropJobs, listQueue } from '../../src/wire/queue.ts'
import { listScopes } from '../../src/wire/sync.ts'
import { aBinary, aSource, writeDebianArchive } from '../help/archives.ts'
import { aPackage, aReport, aResult, pop, startServer, type TestServer } from '../help/server.ts'
import { patienceMilliseconds } from '../help/until.ts'
import { runHere, tempFolder, type Ended } from './program.ts'

type Ctl = (args: string[], input?: string) => Promise<Ended>

async function startWithCtl(t: TestContext): Promise<{ server: TestServer; home: string; ctl: Ctl }> {
  const home = await tempFolder(t)
  const server = await startServer(t)
  const where = ['-H', server.address, '--cookie-file', server.cookieFile]
  const ctl: Ctl = (words, input = '') => runHere(['ctl', 'pkgs', ...words, ...where], { home, input })
  return { server, home, ctl }
}

const reportOf = (...names: string[]): string =>
  JSON.stringify(aReport(names.map((name) => aPackage({ name }))))

type Summary = Record<string, unknown>
const summariesOf = ({ stdout }: Ended): Summary[] => JSON.parse(stdout) as Summary[]
const pick = (summary: Summary | undefined, names: string): Summary =>
  Object.fromEntries(names.split(' ').map((name) => [name, summary?.[name]]))

test('a report that the server has already is not sent again, unless that is meant', async (t) => {
  const { server, ctl } = await startWithCtl(t)
  const imports = async (): Promise<string[]> =>
    (await server.call(listScopes)).map((scope) => scope.imported_at)

  const first = await ctl(['sync-stdin'], reportOf('one', 'two'))
  const [before] = await imports()
  const second = await ctl(['sync-stdin'], reportOf('one', 'two'))
  const [unchanged] = await imports()
  const forced = await ctl(['sync-stdin', '--force'], reportOf('one', 'two'))
  const [after] = await imports()
  const changed = await ctl(['sync-stdin'], reportOf('one', 'three'))

  assert.deepEqual([first.code, second.code, forced.code, changed.code], [0, 0, 0, 0])
  assert.match(first.stderr, /imported debian\/sid \(amd64\) in [\d.]+ s: 2 new, 0 gone, 2 queued/)
  assert.match(second.stderr, /unchanged: debian\/sid \(amd64\) has 2 build inputs with 2 packages/)
  assert.equal(unchanged, before)
  assert.match(forced.stderr, /imported .*: 0 new, 0 gone, 0 queued/)
  assert.notEqual(after, before)
  assert.match(changed.stderr, /imported .*: 1 new, 1 gone, 1 queued/)
})

test('a job that was dropped by hand is queued again by the next sync, changed or not', async (t) => {
  const { server, home, ctl } = await startWithCtl(t)
  const queued = async (): Promise<string[]> =>
    (await server.call(listQueue)).records.map(({ name }) => name).sort()
  const why = (): Promise<Ended> => runHere(['ctl', 'why', 'one', '-H', server.address], { home, input: '' })
  await ctl(['sync-stdin'], reportOf('one', 'two'))
  const [first] = await server.call(listScopes)
  await server.call(dropJobs, { query: { name: 'one' } })
  const [left, explained] = [await queued(), await why()]
  server.clock.ahead = 60_000

  const again = await ctl(['sync-stdin', '--json'], reportOf('one', 'two'))
  const [scope] = await server.call(listScopes)

  assert.deepEqual([left, await queued()], [['two'], ['one', 'two']])
  assert.match(explained.stdout, /its job was dropped; the next sync queues it again/)
  assert.match(again.stderr, /unchanged: .*; 1 job had gone and is queued again/)
  assert.deepEqual(pick(summariesOf(again)[0], 'outcome new queued'), {
    outcome: 'unchanged',
    new: 0,
    queued: 1,
  })
  assert.deepEqual([scope?.changed_at, scope?.imported_at], [first?.changed_at, first?.imported_at])
  assert.ok((scope?.checked_at ?? '') > (first?.checked_at ?? ''), `${scope?.checked_at}`)
})

test('what is GOOD, or was given up, is not queued by a sync that finds nothing new', async (t) => {
  const { server, ctl } = await startWithCtl(t)
  await ctl(['sync-stdin'], reportOf('good'))
  const job = await pop(server.call)
  assert.ok(job)
  await server.call(submitBuild, { body: aResult(job) })

  const again = await ctl(['sync-stdin', '--json'], reportOf('good'))

  assert.deepEqual(pick(summariesOf(again)[0], 'outcome queued'), { outcome: 'unchanged', queued: 0 })
  assert.equal((await server.call(listQueue)).total, 0)
})

test('a server that lost its data gets the same report again', async (t) => {
  const { ctl } = await startWithCtl(t)
  const { server, home } = await startWithCtl(t)
  await ctl(['sync-stdin'], reportOf('one'))

  const args = ['ctl', 'pkgs', 'sync-stdin', '-H', server.address, '--cookie-file', server.cookieFile]
  const { stderr } = await runHere(args, { home, input: reportOf('one') })

  assert.match(stderr, /imported .*: 1 new/)
})

test('--dry-run counts what is unchanged, and queues in thought only what waits for a verdict', async (t) => {
  const { server, ctl } = await startWithCtl(t)
  await ctl(['sync-stdin'], reportOf('good', 'waiting', 'gone'))
  const job = await pop(server.call)
  assert.ok(job)
  await server.call(submitBuild, { body: aResult(job) })
  const names = ['good', 'waiting', 'gone'].filter((name) => name !== job.job.name)
  const next = reportOf(job.job.name, names[0] ?? '', 'new')
  const queue = (await server.call(listQueue)).total

  const told = await ctl(['sync-stdin', '--dry-run'], next)
  const [summary] = summariesOf(await ctl(['sync-stdin', '--dry-run', '--json'], next))

  assert.match(
    told.stdout,
    /^debian\/sid \(amd64\): 3 packages, 1 new, 1 gone, 2 unchanged, 1 to be queued\n\+ new 1\.0-1/,
  )
  assert.deepEqual(pick(summary, 'outcome new gone queued packages'), {
    outcome: 'foretold',
    new: 1,
    gone: 1,
    queued: 1,
    packages: 3,
  })
  assert.equal((await server.call(listQueue)).total, queue)
  const after = await ctl(['sync-stdin', '--json'], next)
  assert.deepEqual(pick(summariesOf(after)[0], 'new gone queued'), { new: 1, gone: 1, queued: 1 })
})

test('--dry-run tells thousands of changes as the import makes them, in the order of their names', async (t) => {
  const { ctl } = await startWithCtl(t)
  const names = (from: number, to: number): string[] =>
    Array.from({ length: to - from }, (_, index) => `pkg-${String(from + index).padStart(4, '0')}`)
  await ctl(['sync-stdin'], reportOf(...names(0, 2000)))
  const next = reportOf(...names(1000, 3500))

  const told = await ctl(['sync-stdin', '--dry-run'], next)
  const after = await ctl(['sync-stdin', '--json'], next)

  const [first, ...lines] = told.stdout.trimEnd().split('\n')
  const sign = (which: string): string[] =>
    lines.filter((line) => line.startsWith(which)).map((line) => line.slice(2, 10))
  assert.equal(
    first,
    'debian/sid (amd64): 2,500 packages, 1,500 new, 1,000 gone, 1,000 unchanged, 1,500 to be queued',
  )
  assert.deepEqual([sign('+'), sign('-')], [names(2000, 3500), names(0, 1000)])
  assert.deepEqual(pick(summariesOf(after)[0], 'new gone queued'), { new: 1500, gone: 1000, queued: 1500 })
})

test('--json tells what came of each report, and of the one that was refused', async (t) => {
  const { ctl } = await startWithCtl(t)
  await ctl(['sync-stdin'], reportOf('one', 'two'))
  const other = aReport([aPackage()], { release: 'trixie', index: 'signed' })
  const input = [reportOf('one', 'two'), JSON.stringify(other), JSON.stringify(aReport([]))].join('\n')

  const begin = performance.now()
  const ended = await ctl(['sync-stdin', '--json'], input)
  const took = (performance.now() - begin) / 1000

  const [unchanged, posted, failed, ...others] = summariesOf(ended)
  assert.equal(ended.code, 1)
  const { seconds, ...rest } = posted ?? {}
  assert.deepEqual(rest, {
    profile: null,
    distribution: 'debian',
    release: 'trixie',
    architecture: 'amd64',
    index: 'signed',
    outcome: 'posted',
    inputs: 1,
    packages: 1,
    new: 1,
    gone: 0,
    queued: 1,
    error: null,
  })
  assert.ok(typeof seconds === 'number' && seconds >= 0 && seconds <= took, `${String(seconds)} of ${took}`)
  assert.deepEqual(pick(unchanged, 'outcome release new'), { outcome: 'unchanged', release: 'sid', new: 0 })
  assert.deepEqual(pick(failed, 'outcome packages'), { outcome: 'failed', packages: 0 })
  assert.match(String(failed?.['error']), /the list of debian\/sid \(amd64\) is empty/)
  assert.deepEqual(others, [])
})

test('an empty list is refused by itself: those after it are imported', async (t) => {
  const { server, ctl } = await startWithCtl(t)
  await ctl(['sync-stdin'], JSON.stringify({ ...JSON.parse(reportOf('doc')), architecture: 'all' }))
  const input = [JSON.stringify(aReport([], { architecture: 'all' })), reportOf('one')].join('\n')

  const { code, stderr } = await ctl(['sync-stdin'], input)

  assert.match(stderr, /the list of debian\/sid \(all\) is empty/)
  const scopes = await server.call(listScopes)
  assert.deepEqual(
    [code, scopes.map(({ architecture, listed }) => [architecture, listed]).sort()],
    [
      1,
      [
        ['all', 1],
        ['amd64', 1],
      ],
    ],
  )
})

test('a list that was empty all along is nothing to complain about, but told', async (t) => {
  const { server, ctl } = await startWithCtl(t)

  const { code, stderr } = await ctl(['sync-stdin'], JSON.stringify(aReport([])))

  assert.match(
    stderr,
    /warning the list of debian\/sid \(amd64\) is empty; http\S+ has none of its packages either/,
  )
  assert.deepEqual([code, await server.call(listScopes)], [0, []])
})

/** `sync.conf` with two archives that are there, and one between them that is not. */
async function writeProfiles(home: string): Promise<void> {
  const archives = { first: 'one', missing: null, last: 'two' }
  let config = ''
  for (const [profile, name] of Object.entries(archives)) {
    const source = join(home, profile)
    const lists = `releases = ["test"]\ncomponents = ["main"]\narchitectures = ["amd64"]`
    const distro = profile === 'last' ? 'sync_method = "debian"\ndistro = "other"' : 'distro = "debian"'
    config += `[profile."${profile}"]\n${distro}\nsource = "${source}"\n${lists}\nallow_unsigned = true\n`
    if (name === null) continue
    const binaries = { 'main/amd64': [aBinary({ Package: name })] }
    await writeDebianArchive(source, { binaries, sources: { main: [aSource({ Package: name })] } })
  }
  await writeFile(join(home, 'sync.conf'), config)
}

test('several profiles are synced, and one that fails hinders no other', async (t) => {
  const { server, home, ctl } = await startWithCtl(t)
  await writeProfiles(home)

  const all = await ctl(['sync-profile', '--all', '--sync-config', 'sync.conf', '--json'])
  const one = await ctl(['sync-profile', 'last', 'last', '--sync-config', 'sync.conf', '--json'])

  assert.deepEqual(
    summariesOf(all).map(({ profile, outcome }) => [profile, outcome]),
    [
      ['first', 'posted'],
      ['missing', 'failed'],
      ['last', 'posted'],
    ],
  )
  assert.equal(all.code, 1)
  assert.match(all.stderr, /missing: reading the archive .*\/missing: /)
  assert.equal((await server.call(listScopes)).length, 1)
  assert.deepEqual([one.code, summariesOf(one).length], [0, 1])
})

test('--print-json prints the reports of several profiles as one array', async (t) => {
  const { home, ctl } = await startWithCtl(t)
  await writeProfiles(home)

  const { code, stdout } = await ctl([
    'sync-profile',
    'last',
    'first',
    '--sync-config',
    'sync.conf',
    '--print-json',
  ])

  const reports = JSON.parse(stdout) as { packages: { name: string }[] }[]
  assert.deepEqual(
    reports.map(({ packages }) => packages.map(({ name }) => name)),
    [['two'], ['one']],
  )
  assert.equal(code, 0)
})

test('neither no profile nor --all beside names is an order', async (t) => {
  const { home, ctl } = await startWithCtl(t)
  await writeProfiles(home)

  for (const words of [[], ['first', '--all']]) {
    const { code, stderr } = await ctl(['sync-profile', ...words, '--sync-config', 'sync.conf'])

    assert.match(stderr, /name the profiles, or give --all\n.*there are: first, missing, last/)
    assert.equal(code, 2)
  }
})

test('profiles whose mirrors differ are read at once', { timeout: patienceMilliseconds }, async (t) => {
  const { home, ctl } = await startWithCtl(t)
  const bothAsked = Promise.withResolvers<void>()
  const waiting = new Set<number>()
  const mirrors = await Promise.all(
    [0, 1].map(async (number) => {
      const mirror = createServer((_, reply) => {
        waiting.add(number)
        if (waiting.size === 2) bothAsked.resolve()
        void bothAsked.promise.then(() => reply.writeHead(404).end())
      })
      await once(mirror.listen(0, '127.0.0.1'), 'listening')
      t.after(() => mirror.close())
      return (mirror.address() as AddressInfo).port // it listens
    }),
  )
  const lists = 'releases = ["test"]\ncomponents = ["main"]\narchitectures = ["amd64"]\nallow_unsigned = true'
  const tables = mirrors.map(
    (port) =>
      `[profile."at-${port}"]\ndistro = "debian"\nsource = "http://127.0.0.1:${port}/debian"\n${lists}\n`,
  )
  await writeFile(join(home, 'sync.conf'), tables.join('\n'))

  const { code, stderr } = await ctl(['sync-profile', '--all', '--sync-config', 'sync.conf'])

  assert.equal(code, 1)
  for (const port of mirrors) assert.match(stderr, new RegExp(`at-${port}: reading the archive`))
})
