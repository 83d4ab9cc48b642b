import { drainWorker } from '../wire/workers.ts'
import { command } from './command.ts'
import { openAdminClient, serverOptions } from './credentials.ts'
import { workerNamed } from './ctl-status.ts'

export const workersDrain = command(
  'ctl workers drain <worker>',
  'Let a worker finish its job and give it no other',
  serverOptions,
  async ([asked], options, context) => {
    const client = await openAdminClient(options, context)
    const worker = await workerNamed(client, asked)
    await client.call(drainWorker, { params: { id: worker.id }, body: { draining: true } })
    context.out(`${worker.name} gets no more jobs; \`ctl workers resume\` changes that`)
  },
)

export const workersResume = command(
  'ctl workers resume <worker>',
  'Give a drained worker jobs again',
  serverOptions,
  async ([asked], options, context) => {
    const client = await openAdminClient(options, context)
    const worker = await workerNamed(client, asked)
    await client.call(drainWorker, { params: { id: worker.id }, body: { draining: false } })
    context.out(`${worker.name} gets jobs again`)
  },
)
