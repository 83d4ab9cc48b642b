import { spawn, type ChildProcessByStdio } from 'node:child_process'
import { once } from 'node:events'
import { Readable, type Writable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import xzPackage from 'xz-decompress' // CommonJS: its names are seen at run time only
import { peeked } from './chunks.ts'
import { Complaint } from './errors.ts'

/** Bytes of input from which on another process is worth starting: unpacking these takes us a tenth of a second. */
const large = 512 * 1024

/**
 * Plain bytes of an .xz file (tukaani.org/xz/xz-file-format.txt): one stream or several.
 * A large file goes through the `xz` program where there is one: it is twice as fast, and leaves this thread to others.
 * @throws Complaint where the file is cut short, damaged or followed by something else
 */
export async function* unxzed(chunks: AsyncIterable<Uint8Array>, what: string): AsyncGenerator<Uint8Array> {
  const { first, all } = await peeked(chunks, large)
  const program = first.length < large ? null : await startXzProgram()
  yield* program === null ? unxzedHere(all, what) : throughXzProgram(program, all, what)
}

/** The same by our own decoder; files that need more than it has go through the `xz` program. */
async function* unxzedHere(chunks: AsyncIterable<Uint8Array>, what: string): AsyncGenerator<Uint8Array> {
  const decoder = openDecoder(await xzExports())
  const input = rewindable(chunks)
  try {
    for (let isDone = false; !isDone;) {
      decoder.supply(await input.read(decoder.room))
      for (const step of decoder.steps()) {
        if (beyondUs.has(step.result) && input.isWhole()) return yield* beyondOurs(input.again(), what)
        if (step.output.length > 0) yield step.output
        if (step.result > ended) throw new Complaint(`${what} ${troubles[step.result] ?? 'is damaged'}`)
        if (step.output.length > 0) input.forget()
        isDone = step.result === ended
      }
    }
  } finally {
    decoder.close()
    await input.close()
  }
}

/** The decoder's exports (xz-embedded, tukaani.org/xz/embedded.html). Its context starts with six words: see `openStream`. */
type XzExports = {
  memory: WebAssembly.Memory
  create_context: () => number
  destroy_context: (context: number) => void
  supply_input: (context: number, length: number) => void
  get_next_output: (context: number) => number
}

/**
 * The package's stream class ignores what follows the first xz stream, and a reader who gives up halfway locks out
 * all others; so we drive its module ourselves. These names are private: the version is pinned, a test watches them.
 */
type XzInternals = { _moduleInstance?: { exports: XzExports }; _getModuleInstance: () => Promise<void> }

async function xzExports(): Promise<XzExports> {
  const internals = xzPackage.XzReadableStream as unknown as XzInternals
  if (internals._moduleInstance === undefined) await internals._getModuleInstance()
  if (internals._moduleInstance === undefined) throw new Error('xz-decompress has changed inside')
  return internals._moduleInstance.exports
}

// --- what the decoder answers (enum xz_ret)

const ended = 1
/** Dictionaries over 64 MiB, filters and checks that the small decoder lacks. */
const beyondUs: ReadonlySet<number> = new Set([2, 3, 4, 6])
const troubles: Readonly<Record<number, string>> = {
  2: 'has a checksum of an unknown kind',
  5: 'has bytes that do not belong to it',
  8: 'is cut short',
}

type Step = { result: number; output: Uint8Array }

/** One file's state inside the module. Words of its context: buffer size, input (place, used, given), output (place, made). */
function openDecoder(xz: XzExports) {
  const context = xz.create_context()
  const words = (): Uint32Array => new Uint32Array(xz.memory.buffer, context, 6)
  const [room = 0, inputAt = 0, , , outputAt = 0] = words()
  return {
    room,
    /** Input of at most `room` bytes; none at all means that the file ends here. */
    supply(bytes: Uint8Array): void {
      new Uint8Array(xz.memory.buffer, inputAt, room).set(bytes)
      xz.supply_input(context, bytes.length)
    },
    /** What it makes of that input, until it needs more. */
    *steps(): Generator<Step> {
      for (;;) {
        const result = xz.get_next_output(context)
        const state = words()
        const made = state[5] ?? 0
        const output = new Uint8Array(xz.memory.buffer).slice(outputAt, outputAt + made)
        const wantsMore = state[2] === state[3] && made < room
        state[5] = 0
        yield { result, output }
        if (result !== 0 || wantsMore) return
      }
    },
    close: () => xz.destroy_context(context),
  }
}

/** Reads pieces of at most the size asked for, and can start again as long as nothing was forgotten. */
function rewindable(chunks: AsyncIterable<Uint8Array>) {
  const source = chunks[Symbol.asyncIterator]()
  let kept: Uint8Array[] | null = []
  let chunk: Uint8Array = new Uint8Array(0)
  let at = 0
  const fill = async (): Promise<void> => {
    while (at >= chunk.length) {
      const next = await source.next()
      if (next.done === true) return
      chunk = next.value
      at = 0
      kept?.push(chunk)
    }
  }
  return {
    async read(most: number): Promise<Uint8Array> {
      await fill()
      const piece = chunk.subarray(at, at + most)
      at += piece.length
      return piece
    },
    forget(): void {
      kept = null
    },
    isWhole: (): boolean => kept !== null,
    async *again(): AsyncGenerator<Uint8Array> {
      yield* kept ?? []
      for (let next = await source.next(); next.done !== true; next = await source.next()) yield next.value
    },
    close: async (): Promise<void> => {
      await source.return?.()
    },
  }
}

type XzProgram = ChildProcessByStdio<Writable, Readable, Readable>

/** Null where there is no such program. */
async function startXzProgram(): Promise<XzProgram | null> {
  const child = spawn('xz', ['-dc', '--memlimit=2GiB'], {
    stdio: ['pipe', 'pipe', 'pipe'],
    env: { ...process.env, LC_ALL: 'C', XZ_OPT: '', XZ_DEFAULTS: '' },
  })
  return once(child, 'spawn').then(
    () => child,
    () => null,
  )
}

/** The `xz` program has every filter, and memory for large dictionaries. */
async function* beyondOurs(chunks: AsyncIterable<Uint8Array>, what: string): AsyncGenerator<Uint8Array> {
  const program = await startXzProgram()
  if (program === null)
    throw new Complaint(`${what} needs the xz program`, { hint: 'apt-get install xz-utils' })
  yield* throughXzProgram(program, chunks, what)
}

async function* throughXzProgram(
  child: XzProgram,
  chunks: AsyncIterable<Uint8Array>,
  what: string,
): AsyncGenerator<Uint8Array> {
  const said: Buffer[] = []
  child.stderr.on('data', (part: Buffer) => said.length < 10 && said.push(part))
  const closed = once(child, 'close') as Promise<[number | null]>
  const fed = pipeline(Readable.from(chunks), child.stdin).then(
    () => null,
    (error: NodeJS.ErrnoException) => (error.code === 'EPIPE' ? null : error), // it stops reading at damaged input
  )
  try {
    for await (const part of child.stdout) yield part as Uint8Array // no encoding is set
    const [readError, [exit]] = [await fed, await closed]
    if (readError !== null) throw readError
    if (exit !== 0) throw new Complaint(`${what} ${troubleIn(Buffer.concat(said).toString())}`)
  } finally {
    child.kill('SIGKILL')
    await closed
  }
}

function troubleIn(said: string): string {
  if (said.includes('Unexpected end of input')) return 'is cut short'
  return `is damaged (${said.trim().slice(0, 300)})`
}
