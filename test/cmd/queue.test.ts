import assert from 'node:assert/strict'
import { writeFile } from 'node:fs/promises'
import { test } from 'node:test'
import { stripVTControlCharacters } from 'node:util'
import { aJob, aPackage, listReply, runHere, startStandIn, tempFolder, type Ended } from './program.ts'

test('queue ls leaves out what is due later, unless asked', async (t) => {
  const home = await tempFolder(t)
  const records = [
    aJob({ id: 1, name: 'now' }),
    aJob({ id: 2, name: 'past', next_retry: '2020-01-01T00:00:00' }),
    aJob({ id: 3, name: 'later', next_retry: '2999-01-01T00:00:00' }),
  ]
  const { url } = await startStandIn(t, ({ query }) => listReply(records, query))
  const names = async (...args: string[]): Promise<(string | undefined)[]> => {
    const { stdout } = await runHere(['ctl', 'queue', 'ls', ...args, '-H', url], { home })
    return stdout
      .trim()
      .split('\n')
      .map((line) => line.split(' ')[2])
  }

  assert.deepEqual(await names(), ['now', 'past'])
  assert.deepEqual(await names('--planned'), ['now', 'past', 'later'])
  assert.deepEqual(await names('-p'), ['now', 'past', 'later'])
})

test('queue ls --head shows the first 25', async (t) => {
  const home = await tempFolder(t)
  const records = Array.from({ length: 60 }, (_, i) => aJob({ id: i + 1, name: `job-${i}` }))
  const { url } = await startStandIn(t, ({ query }) => listReply(records, query))

  const lines = await runHere(['ctl', 'queue', 'ls', '--head', '-H', url], { home })
  const json = await runHere(['ctl', 'queue', 'ls', '--head', '--json', '-H', url], { home })

  assert.equal(lines.stdout.trim().split('\n').length, 25)
  assert.equal((JSON.parse(json.stdout) as unknown[]).length, 25)
})

test('queue push asks for a rebuild and prints how many', async (t) => {
  const home = await tempFolder(t)
  const { url, asked } = await startStandIn(t, () => ({ body: { affected: 2 } }))
  const environment = { REBUILDERD_COOKIE_PATH: `${home}/cookie` }
  await writeFile(`${home}/cookie`, 'secret\n')
  const push = (...args: string[]): Promise<Ended> =>
    runHere(['ctl', 'queue', 'push', 'debian', 'main', ...args, '-H', url], { home, environment })

  const all = await push()
  const one = await push(
    'midge',
    '1.10',
    '--architecture',
    'amd64',
    '--priority',
    '5',
    '--release',
    'trixie',
    '--status',
    'bad',
  )

  assert.deepEqual(
    [all.stdout, one.stdout, one.code],
    ['Queue operation applied to 2 builds\n', 'Queue operation applied to 2 builds\n', 0],
  )
  const empty = {
    release: null,
    name: null,
    version: null,
    architecture: null,
    status: null,
    priority: 0,
    reason: null,
  }
  assert.deepEqual(asked[0]?.body, { ...empty, distribution: 'debian', component: 'main' })
  assert.deepEqual(asked[1]?.body, {
    distribution: 'debian',
    release: 'trixie',
    component: 'main',
    name: 'midge',
    version: '1.10',
    architecture: 'amd64',
    status: 'BAD',
    priority: 5,
    reason: null,
  })
  assert.equal(asked.length, 2)
  assert.deepEqual(
    asked.map(({ method, path, cookie }) => [method, path, cookie]),
    asked.map(() => ['POST', '/api/v1/queue', 'secret']),
  )
})

test('what is named and does not exist is an error with a hint, what only does not match is told', async (t) => {
  const home = await tempFolder(t)
  await writeFile(`${home}/cookie`, 'secret')
  const names = ['hello', 'help']
  const { url } = await startStandIn(t, ({ method, path, query }) => {
    if (method === 'DELETE') return { status: 204 }
    if (method === 'POST') return { body: { affected: 0 } }
    if (path === '/api/v1/queue/why') return { body: [] }
    const [name, begin] = [query.get('name'), query.get('search') ?? '']
    const fits = (one: string): boolean => (name === null || one === name) && one.startsWith(begin)
    const found = path === '/api/v1/queue' || query.has('status') ? [] : names.filter(fits)
    return listReply(
      found.map((one, index) => aPackage({ id: index + 1, name: one })),
      query,
    )
  })
  const run = async (line: string): Promise<[number | null, string]> => {
    const place = ['-H', url, '--cookie-file', `${home}/cookie`]
    const { code, stderr } = await runHere(['ctl', ...line.split(' '), ...place], { home })
    return [code, stderr]
  }
  const near = /knows no (source )?package( for --name)? helo\n {2}did you mean hel(lo|p)\?/

  for (const line of ['queue push debian main', 'queue drop debian main', 'pkgs ls', 'pkgs log', 'why']) {
    const [code, stderr] = await run(`${line} helo`)
    assert.equal(code, 1, line)
    assert.match(stderr, near, line)
  }
  for (const line of ['queue push debian main helo', 'queue drop debian main helo', 'pkgs ls --name helo']) {
    const args = ['-H', url, ...line.split(' ')]
    const environment = { REBUILDERD_COOKIE_PATH: `${home}/cookie` }
    const { code, stderr } = await runHere(args, { home, environment, program: 'rebuildctl' })
    assert.equal(code, 0, `${line}: scripts of rebuildctl's users know success here`)
    assert.match(stderr, /^the server knows no (source )?package helo \(did you mean hel(lo|p)\?\)\n$/)
  }
  for (const line of [
    'queue push debian main hello',
    'queue drop debian main hello',
    'pkgs ls --status BAD',
  ]) {
    const [code, stderr] = await run(line)
    assert.equal(code, 0, line)
    assert.match(stderr, /^(no job of hello matches\n|no package matches\n|)$/, line)
  }
})

test('planned jobs fit a narrow terminal', async (t) => {
  const home = await tempFolder(t)
  const later = { next_retry: '2999-01-01T00:00:00', reason: 'environment_unavailable' }
  const records = [aJob({ name: 'a-package-with-a-long-name', ...later }), aJob({ id: 2 })]
  const { url } = await startStandIn(t, ({ query }) => listReply(records, query))

  const { stdout } = await runHere(['ctl', 'queue', 'ls', '--planned', '-H', url], { home, columns: 80 })

  for (const word of ['environment_unavailable', 'trixie', 'priority 1', 'queued 2026', 'due'])
    assert.ok(stdout.includes(word), stdout)
  const plain = stripVTControlCharacters(stdout)
  assert.ok(
    plain.split('\n').every((line) => line.length <= 80),
    plain,
  )
})

test('queue drop sends exactly the filters given', async (t) => {
  const home = await tempFolder(t)
  const { url, asked } = await startStandIn(t, () => ({ status: 204 }))
  await writeFile(`${home}/cookie`, 'secret')

  const drop = [
    'ctl',
    'queue',
    'drop',
    'debian',
    'main',
    'midge',
    '1.10',
    '--release',
    'sid',
    '--cookie-file',
    `${home}/cookie`,
  ]
  const { code, stdout } = await runHere([...drop, '-H', url], { home })

  assert.deepEqual([code, stdout], [0, ''])
  assert.equal(asked[1]?.method, 'DELETE')
  assert.deepEqual(Object.fromEntries(asked[1]?.query ?? []), {
    distribution: 'debian',
    component: 'main',
    name: 'midge',
    version: '1.10',
    release: 'sid',
  })
})

test('a server that refuses the cookie is told in words', async (t) => {
  const home = await tempFolder(t)
  const { url } = await startStandIn(t, () => ({ status: 403, type: 'text/plain', body: 'no' }))
  await writeFile(`${home}/cookie`, 'wrong')

  const push = ['ctl', 'queue', 'push', 'debian', 'main', 'midge', '--cookie-file', `${home}/cookie`]
  const { code, stderr } = await runHere([...push, '-H', url], { home })

  assert.match(stderr, /403.*\n {2}the server refused our cookie/)
  assert.equal(code, 1)
})
