/** Real packages, built by a distribution's own programs and rebuilt by ours: what each comes to, and what it leaves. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { chmod, copyFile, mkdir, mkdtemp, readFile, readdir, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { after, before, test, type TestContext } from 'node:test'
import { fileURLToPath } from 'node:url'
import { builtInBackend, defaultLimits, type BackendLimits } from '../../src/worker/backend.ts'
import { openControlGroup } from '../../src/worker/cgroup.ts'
import { rebuild, type RebuildJob, type Result } from '../../src/worker/rebuild.ts'
import { removeFolder } from '../../src/worker/sandbox.ts'
import {
  aFolder,
  aSource,
  buildByRules,
  buildOriginals,
  buildinfoFor,
  changelogEntry,
  debianArchitecture,
  lacksPrograms,
  serveFolder,
  type SourceIdea,
} from '../help/debs.ts'
import { rebuildSettings } from '../help/jobs.ts'
import { leftovers, forEver } from '../help/machine.ts'

const skip = lacksPrograms('dpkg-buildpackage', 'unshare', 'apt-get', 'setpriv')
const architecture = skip === false ? debianArchitecture() : ''
const mebibyte = 1024 * 1024
const limited = await limitsHere()
let workshop = ''
let template = ''

async function limitsHere(): Promise<{ memory: boolean; processes: boolean }> {
  const group = await openControlGroup(defaultLimits)
  await group.remove()
  return group.limited
}

before(async () => {
  if (skip !== false) return
  workshop = await mkdtemp(join(tmpdir(), 'rebuilderd-test-'))
  template = await buildOriginals(
    await aSource(workshop, { name: 'template', make: 'echo > made' }),
    workshop,
  )
})
after(() => (workshop === '' ? undefined : rm(workshop, { recursive: true, force: true })))

type Row = Pick<SourceIdea, 'make' | 'packages'> & {
  name: string
  /** Verdict and reason. */
  ends: string
  /** The distribution could not have built it so, or need not: its package was made by a tame source. */
  isWild?: boolean
  /** A changelog entry on top, as for a rebuild without changes. */
  entry?: string
  /** What became of the files on the way to the worker. */
  spoil?: (file: string) => Promise<void>
  /** Changes which files the job asks for. */
  files?: (made: string[]) => string[]
  settings?: { timeoutSeconds?: number; maxLogBytes?: number; limits?: BackendLimits }
  log?: RegExp
  skip?: string | false
}

const two = [
  { name: 'many-one', architecture: 'any' },
  { name: 'many-two', architecture: 'any' },
] as const

const rows: readonly Row[] = [
  { name: 'steady', make: 'date -u -d "@$SOURCE_DATE_EPOCH" > made', ends: 'GOOD' },
  { name: 'random', make: 'od -An -N8 -tx8 /dev/urandom > made', ends: 'BAD content_differs', isWild: true },
  { name: 'time-stamped', make: 'date +%s.%N > made', ends: 'BAD content_differs', isWild: true },
  { name: 'path-embedding', make: 'pwd > made', ends: 'GOOD' },
  { name: 'failing', make: 'echo no such luck; exit 7', ends: 'FAIL build_failed', isWild: true },
  {
    name: 'hanging',
    make: `sleep ${forEver}`,
    ends: 'FAIL build_timeout',
    isWild: true,
    settings: { timeoutSeconds: 5 },
  },
  {
    name: 'forking-for-ever',
    make: `sleep ${forEver} & bash -c 'f() { f | f & }; f' 2>/dev/null; wait`,
    ends: 'FAIL build_timeout',
    isWild: true,
    settings: { timeoutSeconds: 6, limits: { ...defaultLimits, processes: 100 } },
    skip: limited.processes ? false : 'needs a limit on processes',
  },
  {
    name: 'eating-memory',
    make: 'tail /dev/zero',
    ends: 'FAIL too_large',
    isWild: true,
    settings: { limits: { ...defaultLimits, memoryBytes: 256 * mebibyte } },
    skip: limited.memory ? false : 'needs a limit on memory',
  },
  {
    name: 'talking-a-hundred-megabytes',
    make: 'yes chatter | head -c 100000000; echo > made',
    ends: 'GOOD',
    isWild: true,
    settings: { maxLogBytes: 900_000 },
  },
  { name: 'closing-its-output', make: 'echo > made; exec >&- 2>&-; sleep 0.3', ends: 'GOOD', isWild: true },
  {
    name: 'forking-twice',
    make: `echo > made; (setsid sh -c "setsid sleep ${forEver} & sleep ${forEver}" &); sleep 0.1`,
    ends: 'GOOD',
    isWild: true,
  },
  {
    name: 'linking-to-the-original',
    make: `for f in "$(find / -xdev -name 'linking*.deb' 2>/dev/null | head -n 1)" /originals/0/x.deb; do ln -sf "$f" ../linking-to-the-original_1.0_${architecture}.deb; done; echo > made`,
    ends: 'FAIL build_failed',
    isWild: true,
  },
  {
    name: 'writing-elsewhere',
    make: 'for f in /etc/x /usr/x; do ! echo x > $f || exit 9; done 2>/dev/null; for f in /x /root/x /run/x /tmp/x; do echo x > $f || :; done 2>/dev/null; echo > made',
    ends: 'GOOD',
    isWild: true,
  },
  {
    name: 'deleting-its-root',
    make: 'rm -rf --no-preserve-root / 2>/dev/null & sleep 1; kill $!; exit 1',
    ends: 'FAIL build_failed',
    isWild: true,
  },
  {
    name: 'wanting-the-network',
    make: 'curl -sS http://mirror.example/ > made || { echo "curl: (6) Could not resolve host: mirror.example"; exit 6; }',
    ends: 'FAIL network_needed',
    isWild: true,
  },
  {
    name: 'rebuilt-without-changes',
    make: 'dpkg-parsechangelog -S Version > made',
    entry: changelogEntry('rebuilt-without-changes', '1.0+b1', 'Rebuild.', ', binary-only=yes'),
    ends: 'GOOD',
  },
  { name: 'many', make: 'echo many > made', packages: two, ends: 'GOOD' },
  {
    name: 'of-both-kinds',
    make: 'echo both > made',
    packages: [
      { name: 'both-program', architecture: 'any' },
      { name: 'both-data', architecture: 'all' },
    ],
    ends: 'GOOD',
  },
  {
    name: 'one-short',
    make: 'echo > made',
    ends: 'BAD artifact_missing',
    isWild: true,
    files: (made) => [...made, `short-doc_1.0_${architecture}.deb`],
  },
  { name: 'one-over', make: 'echo > made', packages: two, files: (made) => made.slice(0, 1), ends: 'GOOD' },
  {
    name: 'altered-on-the-way',
    make: 'echo > made',
    ends: 'FAIL input_mismatch',
    isWild: true,
    spoil: async (file) => {
      const bytes = await readFile(file)
      bytes[100] = (bytes[100] ?? 0) ^ 1
      await writeFile(file, bytes)
    },
  },
  {
    name: 'cut-on-the-way',
    make: 'echo > made',
    ends: 'FAIL input_mismatch',
    isWild: true,
    spoil: async (file) => writeFile(file, (await readFile(file)).subarray(0, 300)),
  },
]

for (const row of rows) {
  test(
    `a package ${row.name.replaceAll('-', ' ')} → ${row.ends}`,
    { skip: skip || (row.skip ?? false) },
    async (t) => {
      const directory = join(await aFolder(t), 'job')
      await mkdir(directory, { mode: 0o700 })
      const { job, facts } = await aJobOf(t, row)

      const result = await judged(t, job, directory, row)

      const said = `${result.status} ${result.reason ?? ''}`.trim()
      assert.equal(said, row.ends, JSON.stringify(result.evidence?.note))
      for (const { url, sha256 } of result.artifacts) assert.equal(sha256, facts.get(url ?? '')?.sha256)
      assert.equal(result.evidence?.isolation, row.spoil === undefined ? 'namespaces' : null)
      const { mounts, groups, processes } = leftovers(directory)
      assert.deepEqual({ mounts, groups, processes }, { mounts: [], groups: [], processes: [] })
      assert.deepEqual(leftovers(forEver).processes, [])
      await removeFolder(directory)
      await assert.rejects(stat(directory))
    },
  )
}

/** A job whose originals and source are served as an archive serves them. */
async function aJobOf(t: TestContext, row: Row) {
  const folder = await aFolder(t)
  const dsc = await aSource(folder, row)
  const buildinfo =
    row.isWild === true
      ? await tamelyBuilt(folder, row.name)
      : await buildOriginals(dsc, folder, row.entry ?? '')
  const debs = (await readdir(folder)).filter((file) => file.endsWith('.deb')).sort()
  const files = row.files?.(debs) ?? debs
  const base = await serveFolder(t, folder)
  const facts = new Map<string, { sha256: string; size: number }>()
  for (const file of files) {
    if (!debs.includes(file)) await copyFile(join(folder, debs[0] ?? ''), join(folder, file))
    const bytes = await readFile(join(folder, file))
    const sha256 = createHash('sha256').update(bytes).digest('hex')
    facts.set(`${base}/${file}`, { sha256, size: bytes.length })
    await row.spoil?.(join(folder, file))
  }
  const artifacts = [...facts].map(([url, fact]) => {
    const [name = '', version = '', kind = ''] = basename(url, '.deb').split('_')
    return { name, version, architecture: kind, url, ...fact }
  })
  const job: RebuildJob = {
    job: {
      name: row.name,
      version: '1.0',
      distribution: 'debian',
      release: null,
      architecture,
      backend: 'debian',
      url: `${base}/${basename(buildinfo)}`,
    },
    artifacts,
  }
  return { job, facts }
}

/** What a tame source of that name would have become: the wild one is equal to it if it behaves in the end. */
async function tamelyBuilt(folder: string, name: string): Promise<string> {
  await buildByRules({ name, make: 'echo > made' }, folder)
  return buildinfoFor(template, folder, name)
}

async function judged(t: TestContext, job: RebuildJob, directory: string, row: Row): Promise<Result> {
  const settings = await rebuildSettings(t, 'true', {
    backends: new Map([['debian', builtInBackend('debian')]]),
    isolation: 'require',
    ...row.settings,
  })
  return rebuild(job, { directory, settings, signal: t.signal })
}

const isRoot = process.getuid?.() === 0
const noUser = !isRoot ? 'is that user already' : skip

test('a user without any rights comes to the same verdicts', { skip: noUser }, async (t) => {
  const folder = await aFolder(t)
  await chmod(folder, 0o777)
  const user = ['--reuid=61234', '--regid=61234', '--clear-groups', '--inh-caps=-all']
  const pattern = 'steady|failing|hanging|forking twice|writing elsewhere|wanting'
  const tests = ['--test', `--test-name-pattern=${pattern}`, fileURLToPath(import.meta.url)]
  const environment = { PATH: process.env['PATH'], TMPDIR: folder, HOME: folder }

  const run = spawnSync('setpriv', [...user, process.execPath, ...tests], {
    env: environment,
    encoding: 'utf8',
  })

  const count = (what: string): number => Number(new RegExp(`^ℹ ${what} (\\d+)`, 'm').exec(run.stdout)?.[1])
  assert.equal(run.status, 0, run.stdout.slice(-4000))
  t.diagnostic(`${count('pass')} passed, ${count('skipped')} skipped`)
  assert.ok(count('pass') >= 6)
})
