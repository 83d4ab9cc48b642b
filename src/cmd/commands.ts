import type { Command } from './command.ts'

/** Commands by their first word, in the order of --help. Each is loaded when it is named: a server is much to read. */
const groups: Readonly<Record<string, () => Promise<readonly Command[]>>> = {
  demo: async () => [(await import('./demo.ts')).demo],
  serve: async () => [(await import('./serve.ts')).serve],
  worker: async () => (await import('./worker.ts')).workerCommands,
  ctl: async () => (await import('./ctl.ts')).ctlCommands,
  licenses: async () => [(await import('./licenses.ts')).licenses],
  manual: async () => [(await import('./manual.ts')).manual],
}

/** Every command: for help, and for what is generated from them. */
export async function allCommands(): Promise<readonly Command[]> {
  return (await Promise.all(Object.values(groups).map((load) => load()))).flat()
}

/** The commands that an argv may mean: those of the first words that are in it, or all. */
export async function commandsFor(argv: readonly string[]): Promise<readonly Command[]> {
  if (argv[0] === 'ctl' && argv[1] === 'check') return [(await import('./ctl-check.ts')).check] // what others need takes longer than a check
  const named = Object.entries(groups).filter(([word]) => argv.includes(word))
  if (named.length === 0 || argv.includes('help')) return allCommands()
  return (await Promise.all(named.map(([, load]) => load()))).flat()
}
