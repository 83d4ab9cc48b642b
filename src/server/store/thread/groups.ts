import { failed, type Answers } from './answers.ts'
import { tell, type Answered, type Asked } from './messages.ts'
import type { Transactions } from './transactions.ts'
import type { Waiting } from './waiting.ts'

/** Requests that share one commit at the most, and milliseconds after which it is due: the first of them waits. */
const groupLimit = 128
const groupTime = 15
/** Requests of one group after which its commit waits for more: others are about to come. */
const manyTogether = 4
/** Parts that share a commit: many change the same pages, and each commit writes all that it changed. */
const partLimit = 20
/** Milliseconds that an answer may wait for others to go along in one message. */
const tellTime = 1

type Parts = { waiting: Waiting; transactions: Transactions; answers: Answers }

/**
 * Answers several of one kind in one go, and tells the replies. Work that waits at the same moment is a group: one
 * transaction, one commit, and nothing of it is told before that is on disk.
 */
export function openGroups({ waiting, transactions, answers }: Parts) {
  const { queues, receiveAll, gather } = waiting
  /** The group before had several: more are about to come. */
  let isBusy = false
  /** Milliseconds that the last group took; questions then get as long, if they need it. */
  let lastGroupTook = 0

  /** Work of one group, as it comes, until it has lasted long enough; throws what any of it did. */
  const workTogether = async (first: Asked, taken: Asked[]): Promise<Answered[]> => {
    const replies: Answered[] = []
    const start = performance.now()
    transactions.begin(true)
    for (let next: Asked | undefined = first; next !== undefined; next = queues.work.shift()) {
      taken.push(next)
      replies.push(await answers.within(next))
      if (taken.length >= groupLimit || performance.now() > start + groupTime) break
      receiveAll()
      if (queues.work.length === 0 && isBusy) gather()
    }
    isBusy = taken.length >= manyTogether
    transactions.commit()
    lastGroupTook = performance.now() - start
    return replies
  }

  /** Parts, until anybody wants to write; those who only ask are answered between them, at once. */
  const partsTogether = async (first: Asked, taken: Asked[]): Promise<Answered[]> => {
    const replies: Answered[] = []
    transactions.begin(false)
    for (let next: Asked | undefined = first; next !== undefined;) {
      taken.push(next)
      replies.push(await answers.within(next))
      receiveAll()
      for (let asked = queues.questions.shift(); asked !== undefined; asked = queues.questions.shift())
        tell([await answers.alone(asked)])
      const hasTime = queues.work.length + queues.others.length === 0 && taken.length < partLimit
      next = hasTime ? queues.parts.shift() : undefined
    }
    transactions.commit()
    return replies
  }

  /** Where one of a group fails, all of it is taken back and each is done by itself. */
  const orEachAlone = async (first: Asked, together: typeof workTogether): Promise<Answered[]> => {
    const taken: Asked[] = []
    try {
      return await together(first, taken)
    } catch (error) {
      transactions.undo()
      if (taken.length === 1) return [failed(first, error)]
      const replies: Answered[] = []
      for (const asked of taken) replies.push(await answers.alone(asked))
      return replies
    }
  }

  return {
    work: async (first: Asked): Promise<void> => tell(await orEachAlone(first, workTogether)),
    parts: async (first: Asked): Promise<void> => tell(await orEachAlone(first, partsTogether)),
    /** One at least, until something else has waited as long as the last group made questions wait. */
    async questions(first: Asked): Promise<void> {
      const start = performance.now()
      let [replies, told]: [Answered[], number] = [[], start]
      for (let next: Asked | undefined = first; next !== undefined;) {
        replies.push(await answers.alone(next))
        receiveAll()
        const moment = performance.now()
        if (moment > told + tellTime) {
          tell(replies)
          ;[replies, told] = [[], moment]
        }
        const isAwaited = queues.work.length + queues.others.length + queues.parts.length > 0
        const isOver = isAwaited && moment > start + Math.min(lastGroupTook, groupTime)
        next = isOver ? undefined : queues.questions.shift()
      }
      tell(replies)
    },
  }
}
