/** Which blocks of the database's file are written while a backup copies it; for the thread that SQLite runs in. */

/** Pages in the log after which SQLite moves them into the file; a backup keeps it from that for a moment. */
export const checkpointPages = 4000

/** Bytes of a block. */
export const blockSize = 1024 * 1024

let written: Set<number> | null = null

/** Notes that bytes of the database's file are about to be written. */
export function noteWritten(position: number, length: number): void {
  if (written === null) return
  for (let block = Math.floor(position / blockSize); block * blockSize < position + length; block++)
    written.add(block)
}

/**
 * Numbers of the blocks written since the last time this was asked, in order.
 * @param isGoingOn whether it is to be noted from now on
 */
export function takeWritten(isGoingOn: boolean): number[] {
  const blocks = [...(written ?? [])].toSorted((a, b) => a - b)
  written = isGoingOn ? new Set() : null
  return blocks
}
