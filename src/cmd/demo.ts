import { command, flag, text, texts } from './command.ts'

const options = {
  local: flag('Only the packages made here: needs neither root nor network'),
  package: texts('Only this official source package, and none made here', {
    placeholder: 'NAME',
  }),
  once: flag('End when every package has its verdict'),
  install: flag('Install missing Debian packages (as root)'),
  json: text('Also write verdicts and hashes to a file', { placeholder: 'FILE' }),
  keep: flag('Leave the folder with the data of the server and the rebuilt files'),
}

export const demo = command(
  'demo',
  'Watch packages being rebuilt and judged: three made here, then some of Debian’s own',
  options,
  async (_, given, context) => {
    context.hurry() // the first signal ends everything; a second one must not cut the tidying short
    const { perform } = await import('./demo/perform.ts')
    await perform(given, context)
  },
  {
    details:
      'Starts a server and a worker of its own. Build roots and downloads are kept in /var/cache/rebuilderd as root,\n' +
      'else in ~/.cache/rebuilderd; nothing else stays.',
    exits: { 0: 'every package got a verdict, whichever it is' },
    pace: 'sparing',
  },
)
