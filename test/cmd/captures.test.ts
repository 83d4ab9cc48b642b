import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { runHere, startStandIn, tempFolder, type Answer } from './program.ts'

const folder = fileURLToPath(new URL('../../../shared/fixtures/captures/', import.meta.url))
const skip = existsSync(folder) ? false : 'the captures of upstream programs are not there'

/** What rebuildctl was asked, what servers answered, and what it printed. */
type Capture = {
  args: string[]
  answers: { path: string; isNext: boolean; answer: Answer }[]
  stdout: string
}

async function readCapture(name: string): Promise<Capture> {
  const content = await readFile(join(folder, `${name}.txt`), 'utf8')
  const [exchanges = '', rest = ''] = content.split(/^### command: rebuildctl ?/m)
  const [line = '', ...printed] = rest.split('\n')
  const stdout = /### stdout\n([^]*?)### stderr/.exec(printed.join('\n'))?.[1] ?? ''
  return {
    args: line
      .replace(/-H \S+ /, '')
      .trim()
      .split(' '),
    answers: exchanges
      .split(/^=== \d+ ===.*$/m)
      .slice(1)
      .map(answerOf),
    stdout,
  }
}

function answerOf(exchange: string): Capture['answers'][number] {
  const [, target = '/'] = /^(?:GET|POST|DELETE) (\S+) HTTP/m.exec(exchange) ?? []
  const url = new URL(target, 'http://captured')
  const reply = exchange.slice(exchange.indexOf('<<< response'))
  const [, status = '200'] = /^HTTP\/1\.1 (\d+)/m.exec(reply) ?? []
  const [, body] = /^-- body: .*\n([^]*?)\n\n$/m.exec(reply) ?? []
  const type = /^content-type: (.*)$/m.exec(reply)?.[1] ?? 'application/json'
  return {
    path: url.pathname,
    isNext: url.searchParams.has('after'),
    answer: { status: Number(status), type, body },
  }
}

/** Runs our program as rebuildctl was run, against a server that answers what its server did. */
async function replayed(
  t: Parameters<typeof startStandIn>[0],
  name: string,
): Promise<{ expected: string; stdout: string }> {
  const home = await tempFolder(t)
  const { args, answers, stdout: expected } = await readCapture(name)
  const { url } = await startStandIn(t, ({ path, query }) => {
    const found = answers.find((one) => one.path === path && one.isNext === query.has('after'))
    return found?.answer ?? { status: 500 }
  })
  await writeFile(join(home, 'cookie'), 'secret')
  const environment = { REBUILDERD_COOKIE_PATH: join(home, 'cookie') }
  const { stdout, stderr } = await runHere(['-H', url, ...args], { home, environment, program: 'rebuildctl' })
  assert.equal(stderr, '')
  return { expected, stdout }
}

for (const name of [
  'rebuildctl-status',
  'rebuildctl-status-busy',
  'rebuildctl-pkgs-ls',
  'rebuildctl-pkgs-ls-filtered',
  'rebuildctl-pkgs-log',
  'rebuildctl-pkgs-log-unbuilt',
  'rebuildctl-pkgs-diffoscope',
  'rebuildctl-pkgs-attestation',
  'rebuildctl-queue-ls-planned',
  'rebuildctl-queue-ls-head-before',
  'rebuildctl-queue-push',
  'rebuildctl-queue-push-unknown',
  'rebuildctl-queue-drop',
]) {
  test(`${name}: the same is printed`, { skip }, async (t) => {
    const { expected, stdout } = await replayed(t, name)

    assert.ok(name.endsWith('drop') || expected.length > 20)
    assert.equal(stdout.trimEnd(), expected.trimEnd())
  })
}

test('rebuildctl-pkgs-ls-json: every member is there', { skip }, async (t) => {
  const { expected, stdout } = await replayed(t, 'rebuildctl-pkgs-ls-json')

  const plain = (json: string): Record<string, unknown>[] =>
    (JSON.parse(json) as Record<string, unknown>[]).map((record) => ({
      ...record,
      last_seen: String(record['last_seen']).replace(/0+$/, ''),
    }))
  const [ours, theirs] = [plain(stdout), plain(expected)]
  assert.equal(ours.length, theirs.length)
  assert.partialDeepStrictEqual(ours, theirs)
})
