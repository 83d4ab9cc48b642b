import { createHmac, randomBytes } from 'node:crypto'
import { isProven } from '../proof.ts'
import type { RegisterRequest } from '../wire/workers.ts'
import { isSame } from './callers.ts'
import { Refusal } from './refusal.ts'

/** Milliseconds for which a nonce can be answered. */
const lifetime = 5 * 60_000
/** Answered nonces that are remembered: far more than workers register in that time. */
const mostAnswered = 100_000

/** Questions that only the holder of a key can answer: each is for one key, for a short time, and for one answer. */
export type Challenges = {
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
