/** Many callers at once that each keep within the rules: reports that unpack to much, requests that never end. */
import { connect, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import zlib from 'node:zlib'
import { patienceMilliseconds } from '../help/until.ts'
import type { Input } from './inputs.ts'

/** Reports sent at the same moment, and bytes of JSON that each unpacks to: together far more than the server may hold. */
const [reports, unpacked] = [20, 40 * 1024 * 1024]
/** Requests of each kind that are begun and not ended. */
const stalled = 150

/** Reports of small size whose logs are long. */
export function largeReports(): Input[] {
  const log = Buffer.alloc(unpacked, '7,')
  const [head, tail] = [
    '{"queue_id":4711,"built_at":"2026-01-01T00:00:00","build_log":[',
    '7],"status":"FAIL","artifacts":[]}',
  ]
  const body = zlib.zstdCompressSync(Buffer.concat([Buffer.from(head), log, Buffer.from(tail)]))
  const headers = { 'content-type': 'application/json', 'content-encoding': 'zstd', 'x-worker-key': 'fuzz' }
  return Array.from({ length: reports }, () => ({
    kind: 'pressure',
    method: 'POST',
    target: '/api/v1/builds',
    headers,
    body,
  }))
}

/** Requests that stop in the middle: of their headers, of a body that anyone may send, of one that needs a secret. */
export function stallingRequests({ address, cookie }: { address: string; cookie: string }) {
  const { hostname, port } = new URL(address)
  const host = 'host: x\r\ncontent-type: application/json\r\n'
  const beginnings = [
    `GET /api/v1/dashboard HTTP/1.1\r\n${host}x-part: `,
    `POST /api/v1/packages/lookup HTTP/1.1\r\n${host}content-length: 8000000\r\n\r\n{"packages":[`,
    `POST /api/v1/packages HTTP/1.1\r\n${host}x-auth-cookie: ${cookie}\r\ncontent-length: 900000000\r\n\r\n{"dist`,
  ]
  const sockets: Socket[] = []
  const slow: Promise<void>[] = []
  for (let n = 0; n < stalled * beginnings.length; n++) {
    const socket = connect(Number(port), hostname)
    socket.on('error', () => undefined)
    socket.write(beginnings[n % beginnings.length] ?? '')
    if (n % beginnings.length === 0)
      slow.push(new Promise<void>((resolve) => socket.on('close', () => resolve())))
    sockets.push(socket)
    socket.resume()
  }
  return {
    count: sockets.length,
    /** Whether those without all of their headers are let go; the others are ended. */
    async end(): Promise<boolean> {
      const isFreed = await Promise.race([
        Promise.all(slow).then(() => true),
        sleep(patienceMilliseconds, false, { ref: false }),
      ])
      for (const socket of sockets) socket.destroy()
      return isFreed
    },
  }
}
