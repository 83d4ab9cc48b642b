/**
 * How much of large bodies is in memory at once. A body takes room as it grows; where there is none left it waits, and
 * its sender with it. Of those that wait one has a pass and grows all the same, so there is always one that ends and
 * gives its room back.
 */
import { Refusal } from './refusal.ts'

/** Milliseconds that a body waits for others to end. */
const patience = 300_000

/** The room that one body has. */
export type Room = {
  /** @throws Refusal 503 where others did not end in time */
  grow: (bytes: number) => Promise<void> | undefined
  leave: () => void
}

/** Room for what was sent, whose sender may be slow, and for what that unpacks to. */
export type BodyRoom = { sent: Room; plain: Room }

const endless: Room = { grow: () => undefined, leave: () => undefined }
/** A body that is small whatever is in it takes no room. */
export const noRoom: BodyRoom = { sent: endless, plain: endless }

/** Room for `most` bytes, beside what the one with the pass takes. */
export function openRooms(most: number, wait = patience): () => Room {
  const held = new Map<object, number>()
  const waiting = new Map<object, () => void>() // in the order they came, and how to wake them
  let used = 0
  let pass: object | undefined
  const mayGrow = (guest: object, bytes: number): boolean => {
    if (pass === guest || used + bytes <= most) return true
    if (pass === undefined && waiting.keys().next().value === guest) pass = guest
    return pass === guest
  }
  const give = (guest: object, bytes: number): void => {
    held.set(guest, (held.get(guest) ?? 0) + bytes)
    used += bytes
  }
  const changeWithin = (guest: object, milliseconds: number): Promise<void> =>
    new Promise((resolve) => {
      const timer = setTimeout(resolve, milliseconds)
      waiting.set(guest, () => {
        clearTimeout(timer)
        resolve()
      })
    })
  const turn = async (guest: object, bytes: number): Promise<void> => {
    const end = performance.now() + wait
    try {
      waiting.set(guest, () => undefined)
      while (held.has(guest) && !mayGrow(guest, bytes)) {
        const left = end - performance.now()
        if (left <= 0) throw new Refusal(503, 'too many large bodies at once; try again in a minute')
        await changeWithin(guest, left)
      }
      if (held.has(guest)) give(guest, bytes)
    } finally {
      waiting.delete(guest)
    }
  }
  return () => {
    const guest = {}
    held.set(guest, 0)
    return {
      grow(bytes) {
        if (!mayGrow(guest, bytes)) return turn(guest, bytes)
        give(guest, bytes)
        return undefined
      },
      leave() {
        used -= held.get(guest) ?? 0
        held.delete(guest)
        if (pass === guest) pass = undefined
        for (const wake of waiting.values()) wake()
      },
    }
  }
}
