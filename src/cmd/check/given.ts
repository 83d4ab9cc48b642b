/** Files that somebody named on the command line. */
import { createReadStream } from 'node:fs'
import { stat } from 'node:fs/promises'
import { dirname } from 'node:path'
import { Complaint, fileProblem } from '../../errors.ts'
import { wholeInput } from './installed.ts'

/** What is wrong with a file that was given to an option. */
export function givenTrouble(option: string, path: string, error: unknown): Complaint {
  if (error instanceof Complaint) return error
  const problem = fileProblem(error)
  const rest = problem === undefined ? { cause: error } : {}
  return new Complaint(`${option} ${path}: ${problem ?? 'it cannot be read'}`, { exitCode: 2, ...rest })
}

/**
 * The text of a file that was given to an option.
 * @throws Complaint where it cannot be read or is longer than 256 MB
 */
export async function givenText(option: string, path: string): Promise<string> {
  try {
    return (await wholeInput(createReadStream(path), path)).toString('utf8')
  } catch (error) {
    throw givenTrouble(option, path, error)
  }
}

/** Whether a path is a folder; throws a Complaint where there is nothing. */
export async function isGivenFolder(option: string, path: string): Promise<boolean> {
  try {
    return (await stat(path)).isDirectory()
  } catch (error) {
    throw givenTrouble(option, path, error)
  }
}

/** Looks before the work whether its result can be written. */
export async function checkTarget(option: string, path: string): Promise<void> {
  const folder = dirname(path)
  const found = await stat(folder).catch(() => null)
  if (found?.isDirectory() !== true) {
    throw new Complaint(`${option} ${path}: there is no folder ${folder}`, {
      hint: 'make it before, or name a file in another one',
      exitCode: 2,
    })
  }
  if ((await stat(path).catch(() => null))?.isDirectory() === true)
    throw new Complaint(`${option} ${path}: it is a folder; name a file in it`, { exitCode: 2 })
}
