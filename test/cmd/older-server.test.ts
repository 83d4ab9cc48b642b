/** ctl against a server of 0.27, which answers as its contract says and knows nothing of what only ours do. */
import assert from 'node:assert/strict'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import { aReport, aPackage as aReported } from '../help/server.ts'
import {
  aJob,
  aPackage,
  aWorker,
  listReply,
  runHere,
  startStandIn,
  tempFolder,
  type Answer,
  type Asked,
  type Ended,
} from './program.ts'

const text = 'text/plain; charset=utf-8'
const packages = [
  aPackage({
    id: 1,
    name: 'bad',
    status: 'BAD',
    build_id: 1,
    artifact_id: 1,
    diffoscope_log_id: 1,
    attestation_log_id: null,
  }),
  aPackage({ id: 2, name: 'good', status: 'GOOD', build_id: 2, artifact_id: 2 }),
  aPackage({
    id: 3,
    name: 'untried',
    status: null,
    build_id: null,
    artifact_id: null,
    attestation_log_id: null,
  }),
]

/** What 0.27 replies; of a query it knows names, and ignores all else. */
function replyOf({ method, path, query }: Asked): Answer {
  const named = packages.filter(({ name }) => query.get('name') === null || query.get('name') === name)
  switch (`${method} ${path.replace('/api/v1', '')}`) {
    case 'GET /workers':
      return listReply([aWorker()], query)
    case 'GET /packages/binary':
      return listReply(named, query)
    case 'GET /queue':
      return listReply([aJob({ id: 7 })], query)
    case 'GET /builds/1/log':
      return { type: text, body: 'the log\n' }
    case 'GET /builds/1/artifacts/1/diffoscope':
      return { type: text, body: 'the diff\n' }
    case 'GET /builds/2/artifacts/2/attestation':
      return { type: 'application/json; charset=utf-8', body: '{"signatures":[]}' }
    case 'GET /builds/2/log':
      return { status: 500, type: text, body: 'Record not found' }
    case 'POST /queue':
    case 'DELETE /queue':
    case 'POST /packages':
      return { status: 204 }
    default:
      return { status: 404 }
  }
}

async function withOldServer(
  t: TestContext,
): Promise<{ asked: Asked[]; ctl: (words: string, input?: string) => Promise<Ended> }> {
  const home = await tempFolder(t)
  const { url, asked } = await startStandIn(t, replyOf)
  const cookie = join(home, 'cookie')
  await writeFile(cookie, 'secret\n')
  const ctl = (words: string, input = ''): Promise<Ended> =>
    runHere(['ctl', ...words.split(' '), '-H', url, '--cookie-file', cookie], { home, input })
  return { asked, ctl }
}

test('what it lists is shown, and filters that it does not know hold all the same', async (t) => {
  const { ctl } = await withOldServer(t)

  const lines = async (words: string): Promise<unknown[]> => {
    const { code, stdout, stderr } = await ctl(words)
    assert.equal(code, 0, `${words}: ${stderr}`)
    return stdout
      .trim()
      .split('\n')
      .filter((line) => line !== '')
  }

  assert.equal((await lines('pkgs ls')).length, 3)
  assert.match(String((await lines('pkgs ls --status BAD'))[0]), /^\[BAD {2}\] bad /)
  assert.equal((await lines('pkgs ls --status BAD')).length, 1)
  assert.equal((await lines('pkgs ls --status UNKWN')).length, 1)
  assert.equal((await lines('pkgs ls --name good')).length, 1)
  assert.match(String((await lines('status'))[0]), /^w1 \(127\.0\.0\.1\) +=> idle$/)
  assert.equal((await lines('queue ls')).length, 1)
  assert.equal((await lines('workers ls')).length, 1)
})

test('logs, diffs and attestations come; a log that it lost is told in words', async (t) => {
  const { ctl } = await withOldServer(t)

  const [log, diff, attestation, lost] = [
    await ctl('pkgs log bad'),
    await ctl('pkgs diffoscope bad'),
    await ctl('pkgs attestation good'),
    await ctl('pkgs log good'),
  ]

  assert.deepEqual(
    [log.stdout, diff.stdout, attestation.stdout],
    ['the log\n', 'the diff\n', '{"signatures":[]}\n'],
  )
  assert.equal(lost.code, 1)
  assert.match(lost.stderr, /500 Record not found/)
  assert.doesNotMatch(lost.stderr, / at .*\.ts:/)
})

test('requests and drops are taken though it answers 204 without a body, and so are reports', async (t) => {
  const { ctl, asked } = await withOldServer(t)

  const ended = [
    await ctl('queue push debian main bad'),
    await ctl('queue drop debian main bad'),
    await ctl('pkgs sync-stdin', JSON.stringify(aReport([aReported()]))),
  ]

  for (const { code, stderr } of ended) assert.equal(code, 0, stderr)
  assert.doesNotMatch(ended[0]?.stdout ?? '', /undefined|NaN/)
  const changes = asked.filter(({ method }) => method !== 'GET')
  assert.ok(changes.every(({ cookie }) => cookie === 'secret'))
  for (const wanted of ['POST /api/v1/queue', 'DELETE /api/v1/queue', 'POST /api/v1/packages'])
    assert.ok(
      changes.some(({ method, path }) => `${method} ${path}` === wanted),
      wanted,
    )
  const report = changes.find(({ path }) => path === '/api/v1/packages')?.body as {
    packages: { artifacts: object[] }[]
  }
  const needed = ['name', 'version', 'component', 'architecture', 'url']
  for (const name of needed) assert.ok(name in (report.packages[0]?.artifacts[0] ?? {}), name)
})

test('what only our servers know is refused in words, without a trace', async (t) => {
  const { ctl } = await withOldServer(t)

  for (const words of ['why bad', 'queue pause', 'queue watch', 'sync status']) {
    const { code, stderr } = await ctl(words)
    assert.notEqual(code, 0, words)
    assert.match(stderr, /^rebuilderd: /, words)
    assert.doesNotMatch(stderr, / at .*\.ts:|undefined/, words)
  }
})
