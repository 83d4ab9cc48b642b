/** Logs of running jobs: workers send them piece by piece, people follow them. */
import { plainBytes } from '../compression.ts'
import { getBuildLog } from '../wire/builds.ts'
import { appendLog, watchLog } from '../wire/queue.ts'
import { bodyOf } from './encoding.ts'
import { followed, type Followed } from './livelog.ts'
import { resumedFrom, streamEnd } from './events.ts'
import { Refusal, found } from './refusal.ts'
import { bytesReply } from './replies.ts'
import type { Mount } from './route.ts'
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

/** Mounts logs: while they grow, and as they are kept. */
export function mountWatching(mount: Mount, service: Service): void {
  const { db, liveLogs, pulse, stopping, watchers } = service
  mount(appendLog, async ({ params, query, worker, context }) => {
    const lease = found(await heldLease(db, params.id, found(worker).id))
    await liveLogs.append(lease, query.offset, await bodyOf(context, appendLog.bodyLimit))
  })
  mount(watchLog, async ({ params, query, request, context, address }) => {
    const { id: lease } = found(await newestLease(db, params.id))
    const offset = resumedFrom(request, query.offset) ?? 0
    if (query.follow !== '1') return bytesReply(context, await liveLogs.read(lease, offset), plainText)
    const log: Followed = {
      read: (position) => liveLogs.read(lease, position),
      async ended() {
        const current = await newestLease(db, params.id)
        return current === null || current.outcome !== null ? { build: current?.build_id ?? null } : null
      },
    }
    const end = streamEnd(stopping)
    watchers.enter(address, end.over)
    return followed(log, { offset, pulse }, end)
  })
  mount(getBuildLog, async ({ params, query, request, address }) => {
    const kept = await frameOf(service, await logOf(db, params.id))
    if (query.follow !== '1') return kept
    const end = streamEnd(stopping)
    watchers.enter(address, end.over)
    const bytes = await plainBytes(kept.frame, longestFollowed).catch(() => {
      end.leave()
      throw new Refusal(413, 'this log is too long to be followed: fetch it without follow=1')
    })
    const log: Followed = {
      read: async (position) => bytes.subarray(position, position + 256 * 1024),
      ended: async () => ({ build: params.id }),
    }
    return followed(log, { offset: resumedFrom(request, query.offset) ?? 0, pulse }, end)
  })
}
