/** The thread that hashes and compares large files: it reads them synchronously, and nobody else waits for the disk. */
import { parentPort } from 'node:worker_threads'
import { byTurns } from '../hashing.ts'
import { partsOf, type AnswerOf, type FilesOf, type Task } from './hash-tasks.ts'

/** What the thread is told: which files to look at (open ones of this process), or to stop with them. */
export type HashOrder = Asked | { stop: number }
export type Asked = { id: number; task: Task; files: FilesOf<Task> }
/** What it answers, once for each task: it touches the files no more. */
export type HashReply = { id: number } & ({ answer: AnswerOf<Task> } | { error: SystemError })
/** An error of the operating system as it goes from thread to thread: a clone would lose its code. */
type SystemError = {
  message: string
  code: string | undefined
  errno: number | undefined
  syscall: string | undefined
}

if (parentPort !== null) {
  const main = parentPort
  const running = new Map<number, AbortController>()
  main.on('message', (order: HashOrder) => {
    if ('stop' in order) {
      running.get(order.stop)?.abort()
      return
    }
    const stop = new AbortController()
    running.set(order.id, stop)
    void replyTo(order, stop.signal).then((reply) => {
      running.delete(order.id)
      main.postMessage(reply)
    })
  })
}

async function replyTo({ id, task, files }: Asked, signal: AbortSignal): Promise<HashReply> {
  try {
    return { id, answer: await byTurns(partsOf(task, files), signal) }
  } catch (error) {
    const { message, code, errno, syscall } = error as NodeJS.ErrnoException // others have no code
    return { id, error: { message, code, errno, syscall } }
  }
}
