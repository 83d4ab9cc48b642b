import assert from 'node:assert/strict'
import { writeFile } from 'node:fs/promises'
import { test } from 'node:test'
import { aJob, listReply, runHere, startStandIn, tempFolder, type Ended } from './program.ts'

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
  assert.equal(asked[0]?.method, 'DELETE')
  assert.deepEqual(Object.fromEntries(asked[0]?.query ?? []), {
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
