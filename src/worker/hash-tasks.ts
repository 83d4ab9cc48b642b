import { differenceOf, hashesOf, type Hashes, type Parts } from '../hashing.ts'

const tasks = {
  difference: differenceOf,
  digest: (file: number): Parts<Hashes<'sha256'>> => hashesOf(file, ['sha256']),
} as const

/** What is to be found out about open files. */
export type Task = keyof typeof tasks
export type FilesOf<One extends Task> = Parameters<(typeof tasks)[One]>
export type AnswerOf<One extends Task> = ReturnType<(typeof tasks)[One]> extends Parts<infer T> ? T : never

/** The work that it is, in parts. */
export function partsOf<One extends Task>(task: One, files: FilesOf<One>): Parts<AnswerOf<One>> {
  const parts = tasks[task] as (...files: FilesOf<One>) => Parts<AnswerOf<One>> // of the same name
  return parts(...files)
}
