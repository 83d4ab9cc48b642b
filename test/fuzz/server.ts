/** The server under fire, in a process of its own: prints its address and secrets, and lives until its input ends. */
import { loadSettings, serverSettings } from '../../src/config.ts'
import { openClient } from '../../src/client.ts'
import { openLog } from '../../src/log.ts'
import { startServer } from '../../src/server/serve.ts'
import { registerWorker } from '../../src/wire/workers.ts'
import { aPackage, importPackages, pop } from '../help/server.ts'

const settings = {
  ...(await loadSettings(serverSettings, [])),
  'http.bind_addr': '127.0.0.1:0',
  'http.real_ip_header': 'x-real-ip', // so that failed attempts are those of many callers
  'worker.signup_secret': 'fuzz',
}
const server = await startServer({
  settings,
  data: process.argv[2] ?? '',
  log: openLog({ level: 'warning' }),
})
const { call } = openClient({
  base: server.address,
  cookie: server.cookie,
  workerKey: 'fuzz',
  signupSecret: 'fuzz',
})
await call(registerWorker, { body: { name: 'fuzz', tags: [] } })
await importPackages(
  call,
  Array.from({ length: 50 }, (_, n) => aPackage({ name: `package-${n}` })),
)
await pop(call)
process.stdout.write(`${JSON.stringify({ address: server.address, cookie: server.cookie })}\n`)
process.stdin.on('end', () => void server.stop().then(() => process.exit(0)))
process.stdin.resume()
