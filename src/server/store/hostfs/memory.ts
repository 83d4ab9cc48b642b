import type { Stats } from 'node:fs'

/** The memory of a WebAssembly module, as its system calls need it. */
export type Memory = {
  bytes: () => Uint8Array
  data: () => DataView
}

/** Views of the module's memory, made anew when it has grown. */
export function viewsOf(memory: () => WebAssembly.Memory): Memory {
  let buffer: ArrayBufferLike | undefined
  let bytes = new Uint8Array(0)
  let data = new DataView(new ArrayBuffer(0))
  const refresh = (): void => {
    if (buffer === memory().buffer) return
    buffer = memory().buffer
    bytes = new Uint8Array(buffer)
    data = new DataView(buffer)
  }
  return {
    bytes: () => (refresh(), bytes),
    data: () => (refresh(), data),
  }
}

/** The text at an address, up to its zero byte. */
export function textAt({ bytes }: Memory, pointer: number): string {
  const all = bytes()
  return Buffer.from(all.subarray(pointer, all.indexOf(0, pointer))).toString()
}

/** Writes what is known of a file as Emscripten's struct stat has it. */
export function writeStat({ data }: Memory, at: number, stat: Stats): number {
  const view = data()
  for (const [index, value] of [stat.dev, stat.mode, stat.nlink, stat.uid, stat.gid, stat.rdev].entries()) {
    view.setUint32(at + 4 * index, value, true)
  }
  view.setBigInt64(at + 24, BigInt(stat.size), true)
  view.setInt32(at + 32, 4096, true)
  view.setInt32(at + 36, stat.blocks, true)
  for (const [index, ms] of [stat.atimeMs, stat.mtimeMs, stat.ctimeMs].entries()) {
    view.setBigInt64(at + 40 + 16 * index, BigInt(Math.floor(ms / 1000)), true)
    view.setUint32(at + 48 + 16 * index, Math.floor(ms % 1000) * 1e6, true)
  }
  view.setBigInt64(at + 88, BigInt(stat.ino), true)
  return 0
}
