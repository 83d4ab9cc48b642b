import assert from 'node:assert/strict'
import type { IncomingHttpHeaders } from 'node:http'
import type { Socket } from 'node:net'
import { test } from 'node:test'
import { openClient } from '../src/client.ts'
import { Complaint } from '../src/errors.ts'
import { popQueue, requestRebuild } from '../src/wire/queue.ts'
import { listWorkers } from '../src/wire/workers.ts'
import { aServer } from './help/files.ts'

test('a server that sends us elsewhere gets none of our secrets there', async (t) => {
  const heard: IncomingHttpHeaders[] = []
  const elsewhere = await aServer(t, (request, response) => {
    heard.push(request.headers)
    response.end('{"total":0,"records":[]}')
  })
  const base = await aServer(t, (request, response) => {
    response.writeHead(307, { location: elsewhere + request.url }).end()
  })
  const client = openClient({ base, cookie: 'hush', workerKey: 'key', signupSecret: 'secret' })
  client.prove('proof')
  const job = { distribution: 'debian', release: null, component: null, name: 'x', version: null }

  for (const asking of [
    () => client.call(listWorkers),
    () => client.call(popQueue, { body: { supported_backends: [], supported_architectures: [] } as never }),
    () => client.call(requestRebuild, { body: job as never }),
  ])
    await assert.rejects(asking, (error) => error instanceof Complaint && error.message.includes(elsewhere))

  assert.deepEqual(heard, [])
  const { total } = await openClient({ base }).call(listWorkers) // there is nothing to be kept from anybody
  assert.equal(total, 0)
})

test('a question whose kept connection the server has closed is asked again; an order is not', async (t) => {
  const asked: string[] = []
  const answered = new Set<Socket>()
  const base = await aServer(t, (request, response) => {
    asked.push(request.method ?? '')
    request.resume()
    if (answered.has(request.socket)) return void request.socket.destroy() // as if it had been closed before
    answered.add(request.socket)
    response.end('{"total":0,"records":[]}')
  })
  const client = openClient({ base, workerKey: 'key' })
  const job = { supported_backends: [], supported_architectures: [] }

  for (let times = 0; times < 3; times++) assert.equal((await client.call(listWorkers)).total, 0)
  await assert.rejects(client.call(popQueue, { body: job as never }), /cannot reach the server/)

  assert.ok(asked.length > 4, asked.join(' '))
})
