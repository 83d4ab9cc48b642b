/**
 * How much of large bodies is in memory at once. A body takes room as it grows; where there is none left it waits, and
 * its sender with it. The one that came first never waits, so there is always one that ends and gives its room back.
 */
import { Refusal } from './refusal.ts'

/** Milliseconds that a body waits for others to end. */
const patience = 60_000

/** The room that one body has. */
export type Room = {
  /** @throws Refusal 503 where others did not end in time */
  grow: (bytes: number) => Promise<void> | undefined
  leave: () => void
}

/** A body that is small whatever is in it takes no room. */
export const noRoom: Room = { grow: () => undefined, leave: () => undefined }

/** Room for `most` bytes, beside what the body that came first takes. */
export function openRooms(most: number, wait = patience): () => Room {
  const guests = new Map<object, number>() // what each of them holds, in the order they came
  const waiting: (() => void)[] = []
  let used = 0
  const mayGrow = (guest: object, bytes: number): boolean =>
    guests.keys().next().value === guest || used + bytes <= most
  const give = (guest: object, bytes: number): void => {
    guests.set(guest, (guests.get(guest) ?? 0) + bytes)
    used += bytes
  }
  const changeWithin = (milliseconds: number): Promise<void> =>
    new Promise((resolve) => {
      const timer = setTimeout(resolve, milliseconds)
      waiting.push(() => {
        clearTimeout(timer)
        resolve()
      })
    })
  const turn = async (guest: object, bytes: number): Promise<void> => {
    const end = performance.now() + wait
    while (guests.has(guest) && !mayGrow(guest, bytes)) {
      const left = end - performance.now()
      if (left <= 0) throw new Refusal(503, 'too many large bodies at once; try again in a minute')
      await changeWithin(left)
    }
    if (guests.has(guest)) give(guest, bytes)
  }
  return () => {
    const guest = {}
    guests.set(guest, 0)
    return {
      grow(bytes) {
        if (!mayGrow(guest, bytes)) return turn(guest, bytes)
        give(guest, bytes)
        return undefined
      },
      leave() {
        used -= guests.get(guest) ?? 0
        guests.delete(guest)
        for (const wake of waiting.splice(0)) wake()
      },
    }
  }
}
