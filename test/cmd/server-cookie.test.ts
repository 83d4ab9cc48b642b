/** Where the server has the administrators' secret from. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { cleanEnvironment, firstArgs, program, runProgram, tempFolder } from './program.ts'

test('a configuration that is not TOML stops the start, and the secret stays as it was', async (t) => {
  const home = await tempFolder(t)
  const [config, data] = [join(home, 'broken.conf'), join(home, 'data')]
  await mkdir(data, { mode: 0o700 })
  await writeFile(join(data, 'auth-cookie'), 'the old one\n')
  await writeFile(config, '[auth\ncookie = "x"\n')

  const { code, stderr } = await runProgram(['serve', '-c', config, '--data', data], { home })

  assert.equal(code, 2)
  assert.match(stderr, /broken\.conf is not valid TOML/)
  assert.equal(await readFile(join(data, 'auth-cookie'), 'utf8'), 'the old one\n')
})

test('the secret of a configuration that is named is the one that counts', async (t) => {
  const home = await tempFolder(t)
  const [config, data] = [join(home, 'mine.conf'), join(home, 'data')]
  await mkdir(data, { mode: 0o700 })
  await writeFile(join(data, 'auth-cookie'), 'the old one\n')
  await writeFile(config, '[auth]\ncookie = "the one I chose"\n')
  const kept = join(home, 'elsewhere')
  const args = [...firstArgs, 'serve', '-c', config, '--data', data, '--listen', '127.0.0.1:0']
  const environment = { ...cleanEnvironment(home), REBUILDERD_COOKIE_PATH: kept }
  const child = spawn(program, args, { env: environment, cwd: home })
  const ended = once(child, 'exit')
  let said = ''
  child.stdout.on('data', (chunk: Buffer) => (said += chunk.toString()))
  while (!/127\.0\.0\.1:\d+/.test(said)) await once(child.stdout, 'data')
  const [address = ''] = /127\.0\.0\.1:\d+/.exec(said) ?? []
  const status = async (cookie: string): Promise<number> =>
    (await fetch(`http://${address}/api/v0/workers`, { headers: { 'x-auth-cookie': cookie } })).status

  const statuses = [await status('the one I chose'), await status('the old one')]
  child.kill('SIGTERM')
  await ended

  assert.deepEqual(statuses, [200, 403])
})
