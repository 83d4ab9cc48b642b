/** Logs of running jobs: workers send them piece by piece, people follow them. */
import { plainBytes } from '../compression.ts'
import { getBuildLog } from '../wire/builds.ts'
import { appendLog, watchLog } from '../wire/queue.ts'
import { bodyOf } from './encoding.ts'
import { followed, type Followed } from './livelog.ts'
import { Refusal, found, notFound } from './refusal.ts'
import { bytesReply, type Mount } from './route.ts'
import { frameOf, type Service } from './service.ts'
import { logOf } from './store/builds.ts'
import { heldLease, newestLease } from './store/queue.ts'

/** Bytes of a finished log that can be followed: it is held while somebody does. */
const longestFollowed = 64 * 1024 * 1024

const plainText = {
  'content-type': 'text/plain; charset=utf-8',
  'x-content-type-options': 'nosniff',
  'content-security-policy': "default-src 'none'",
}

export function mountWatching(mount: Mount, service: Service): void {
  const { db, liveLogs, pulse, stopping } = service
  mount(appendLog, async ({ params, query, worker, context }) => {
    const lease = found(await heldLease(db, params.id, found(worker).id))
    await liveLogs.append(lease, query.offset, await bodyOf(context, appendLog.bodyLimit))
  })
  mount(watchLog, async ({ params, query, request, context }) => {
    const { id: lease } = found(await newestLease(db, params.id))
    const offset = startOf(query.offset, request)
    if (query.follow !== '1') return bytesReply(context, await liveLogs.read(lease, offset), plainText)
    const log: Followed = {
      read: (position) => liveLogs.read(lease, position),
      async ended() {
        const current = await newestLease(db, params.id)
        return current === null || current.outcome !== null ? { build: current?.build_id ?? null } : null
      },
    }
    return followed(log, { offset, signal: stopping, pulse })
  })
  mount(getBuildLog, async ({ params, query, request }) => {
    const kept = await frameOf(service, await logOf(db, params.id))
    if (query.follow !== '1') return kept
    const bytes = await plainBytes(kept.frame, longestFollowed).catch(() => {
      throw new Refusal(413, 'this log is too long to be followed: fetch it without follow=1')
    })
    const log: Followed = {
      read: async (position) => bytes.subarray(position, position + 256 * 1024),
      ended: async () => ({ build: params.id }),
    }
    return followed(log, { offset: startOf(query.offset, request), signal: stopping, pulse })
  })
}

/** Where a follower goes on: what it asks for, or the last event it saw. */
function startOf(asked: number | undefined, request: Request): number {
  const last = Number(request.headers.get('last-event-id') ?? 0)
  const offset = asked ?? last
  if (!Number.isSafeInteger(offset)) throw notFound()
  return offset
}
