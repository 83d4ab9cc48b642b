import { createHmac, randomBytes } from 'node:crypto'
import { signingKeyToDer, type SigningKey } from '../attestation.ts'
import { isPresent, isProven } from '../proof.ts'
import type { RegisterRequest } from '../wire/workers.ts'
import { isSame } from './callers.ts'
import { Refusal } from './refusal.ts'

/** Milliseconds for which a nonce can be answered. */
const lifetime = 5 * 60_000
/** Answered nonces that are remembered: far more than workers register in that time. */
const mostAnswered = 100_000

/** Questions that only the holder of a key can answer: each is for one key, for a short time, and for one answer. */
type Challenges = {
  ask: (workerKey: string) => string
  /** @throws Refusal 403 where the answer is wrong, late, or was given before */
  check: (body: RegisterRequest, workerKey: string) => void
}

/** The secret lives as long as the program: what was asked before a restart has to be asked again. */
export function openChallenges(now: () => Date): Challenges {
  const secret = randomBytes(32)
  const answered = new Map<string, number>()
  const nonceOf = (time: number, salt: string, key: string): string =>
    `${time}.${salt}.${createHmac('sha256', secret).update(`${time}.${salt}.${key}`).digest('hex')}`
  const forget = (moment: number): void => {
    for (const [nonce, time] of answered) {
      if (moment - time < lifetime && answered.size < mostAnswered) return // the oldest come first
      answered.delete(nonce)
    }
  }
  return {
    ask: (workerKey) => nonceOf(now().getTime(), randomBytes(16).toString('hex'), workerKey),
    check(body, workerKey) {
      const nonce = body.proof?.nonce ?? ''
      const moment = now().getTime()
      const [, time = '0', salt = ''] = /^(\d{1,15})\.([0-9a-f]{32})\./.exec(nonce) ?? []
      const isOurs = isSame(nonce, nonceOf(Number(time), salt, workerKey))
      if (!isOurs || Math.abs(moment - Number(time)) > lifetime || answered.has(nonce))
        throw new Refusal(403, 'the challenge is not ours, too old or was answered before; ask for a new one')
      if (!isProven(body, workerKey)) throw new Refusal(403, 'the signature of the challenge is false')
      forget(moment)
      answered.set(nonce, Number(time))
    },
  }
}

/** Milliseconds for which a session lasts; workers take a new one long before. */
const sessionLifetime = 24 * 3_600_000
/** Proofs that were found true and are remembered. */
const mostRemembered = 10_000

/**
 * What a worker signs once and shows with every request: its key alone is public, every attestation names it.
 * A session is for one key and for a day, by this server's own clock, and outlives a restart.
 */
export type Sessions = {
  open: (workerKey: string) => string
  isTrue: (header: string | null, workerKey: string) => boolean
}

/** Sessions sealed with a secret that only the signing key leads to. */
export function openSessions(signingKey: SigningKey, now: () => Date): Sessions {
  const secret = createHmac('sha256', signingKeyToDer(signingKey))
    .update('rebuilderd worker sessions')
    .digest()
  const known = new Map<string, number>()
  const sessionOf = (time: number, key: string): string =>
    `${time}.${createHmac('sha256', secret).update(`${time}.${key}`).digest('hex')}`
  const isAlive = (time: number): boolean => Math.abs(now().getTime() - time) < sessionLifetime
  return {
    open: (workerKey) => sessionOf(now().getTime(), workerKey),
    isTrue(header, workerKey) {
      const seen = known.get(`${workerKey} ${header}`)
      if (seen !== undefined) return isAlive(seen)
      const [, session = '', time = '0', signature = ''] =
        /^((\d{1,15})\.[0-9a-f]{64})\.([0-9a-f]{128})$/.exec(header ?? '') ?? []
      if (!isAlive(Number(time)) || !isSame(session, sessionOf(Number(time), workerKey))) return false
      if (!isPresent(session, signature, workerKey)) return false
      if (known.size >= mostRemembered) known.clear()
      known.set(`${workerKey} ${header}`, Number(time))
      return true
    },
  }
}
