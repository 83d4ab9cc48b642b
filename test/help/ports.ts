import { once } from 'node:events'
import { createServer } from 'node:net'

/**
 * A free port of the loopback device for a server that is killed and started again on the same one. It is none of those
 * that the system gives to whoever asks for any, or else somebody might have got it meanwhile (ip(7), ip_local_port_range).
 */
export async function aLastingPort(): Promise<number> {
  for (;;) {
    const port = 20_000 + Math.floor(Math.random() * 12_000)
    const server = createServer().listen(port, '127.0.0.1')
    const isFree = await once(server, 'listening').then(
      () => true,
      () => false,
    )
    if (!isFree) continue
    server.close()
    await once(server, 'close')
    return port
  }
}
