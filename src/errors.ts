/** Something the person can act on: wrong input, a missing file, a server that does not answer. Printed without a stack. */
export class Complaint extends Error {
  /** What to try, as a sentence; undefined where there is nothing to advise. */
  readonly hint: string | undefined
  /** 1: it could not be done; 2: it was asked for in a wrong way. */
  readonly exitCode: number

  constructor(
    message: string,
    options: { hint?: string | undefined; exitCode?: number; cause?: unknown } = {},
  ) {
    super(message, options.cause === undefined ? {} : { cause: options.cause })
    this.name = 'Complaint'
    this.hint = options.hint
    this.exitCode = options.exitCode ?? 1
  }
}

/** Says what we were doing when a step failed; `main.ts` prints the chain of these. */
class Doing extends Error {
  constructor(what: string, cause: unknown) {
    super(what, { cause })
    this.name = 'Doing'
  }
}

/**
 * Runs `work` and names it in whatever it throws.
 * @param what a phrase such as `reading /etc/rebuilderd.conf`
 */
export async function during<T>(what: string, work: () => Promise<T> | T): Promise<T> {
  try {
    return await work()
  } catch (error) {
    throw new Doing(what, error)
  }
}

/** The errors of a chain, outermost first; bounded, because causes may form a ring. */
export function chainOf(error: unknown): Error[] {
  const chain: Error[] = []
  let next: unknown = error
  while (next !== undefined && next !== null && chain.length < 10) {
    const known: Error =
      next instanceof Error
        ? next
        : new Error(typeof next === 'string' ? next : 'something that is no error was thrown')
    if (chain.includes(known)) break
    chain.push(known)
    next = known.cause
  }
  return chain
}

/** The first complaint of a chain: what the person can act on. */
export function complaintOf(error: unknown): Complaint | undefined {
  return chainOf(error).find((link) => link instanceof Complaint)
}

/** What the system says of files (man7.org/linux/man-pages/man3/errno.3.html), in words. */
const fileWords: Readonly<Record<string, string>> = {
  ENOENT: 'there is no such file or folder',
  ENOTDIR: 'a part of its path is no folder',
  EISDIR: 'it is a folder, not a file',
  EACCES: 'you have no permission for it',
  EPERM: 'it is not permitted',
  ELOOP: 'its links lead in circles',
  EROFS: 'nothing can be written there',
}
const fileCalls =
  /^(?:access|chmod|copyfile|link|lstat|mkdir|mkdtemp|open|opendir|read|readlink|rename|rmdir|scandir|stat|symlink|unlink|write)$/

/** What the system said of a file in words, or undefined where it said something else. */
export function fileProblem(error: unknown): string | undefined {
  const { code = '', syscall = '' } = error as NodeJS.ErrnoException // of the system; others have none
  return fileCalls.test(syscall) ? fileWords[code] : undefined
}

/** What the links of a chain say, one after the other; a file is named once. */
function joined(chain: readonly Error[]): string {
  let text = ''
  for (const link of chain) {
    const { path = '' } = link as NodeJS.ErrnoException // of the system; others have none
    const words = fileProblem(link)
    const named = path === '' || text.includes(path) ? '' : `${path}: `
    text += `${text === '' ? '' : ': '}${words === undefined ? link.message : named + words}`
  }
  return withoutUsers(text)
}

/** Addresses without the users in them, who may come with a password: `http://name:secret@host/` has `…@` there. */
export function withoutUsers(text: string): string {
  return text.replace(/\/\/[^/\s]*@/g, '//…@')
}

/** Errors of the operating system that say enough by themselves; a stack would only hide the sentence. */
function isPlain(error: Error): boolean {
  return (
    error instanceof Complaint ||
    error instanceof Doing ||
    ('code' in error && typeof error.code === 'string')
  )
}

/**
 * One text for a person: what we were doing, what is wrong, what to try.
 * Bugs keep their stack, so that they can be reported.
 */
export function explain(error: unknown): string {
  const chain = chainOf(error)
  const complaint = complaintOf(error)
  const bug = complaint === undefined ? chain.find((link) => !isPlain(link)) : undefined // below a complaint it is no bug
  const sentence = joined(chain)
  const hint = complaint?.hint
  const lines = [sentence]
  if (hint !== undefined) lines.push(`  ${hint}`)
  if (bug?.stack !== undefined) lines.push(bug.stack)
  return lines.join('\n')
}

/** The chain as one line, for logs and for the report of a failed build. */
export function sentenceOf(error: unknown): string {
  return joined(chainOf(error))
}

/** The known word nearest to a mistyped one, or undefined when none is near enough to be meant. */
function nearest(word: string, known: Iterable<string>): string | undefined {
  let best: string | undefined
  let bestDistance = Math.max(2, Math.floor(word.length / 3)) + 1
  for (const candidate of known) {
    const distance = editDistance(word, candidate)
    if (distance < bestDistance) {
      best = candidate
      bestDistance = distance
    }
  }
  return best
}

/** `did you mean …?` for a Complaint's hint. */
export function didYouMean(word: string, known: Iterable<string>): string | undefined {
  const near = nearest(word, known)
  return near === undefined ? undefined : `did you mean ${near}?`
}

/** Levenshtein distance, row by row. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, column) => column)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++) {
      const change = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1)
      next.push(Math.min(change, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1))
    }
    row = next
  }
  return row[b.length] ?? 0
}
