import type { Command } from './command.ts'

/** Every command, in the order of --help. What a command needs besides is imported when it runs. */
export const commands: readonly Command[] = []
