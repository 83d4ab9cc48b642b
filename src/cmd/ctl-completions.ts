import { Complaint } from '../errors.ts'
import { command } from './command.ts'
import { completionsFor, shells } from './completions.ts'

export const completions = command(
  'ctl completions <shell>',
  'Print a completion script for bash, zsh or fish',
  {},
  async ([asked], _, context) => {
    const shell = shells.find((known) => known === asked)
    if (shell === undefined) {
      throw new Complaint(`no completions for the shell ${asked}`, {
        hint: `there are: ${shells.join(', ')}`, // names this short are all near one another
        exitCode: 2,
      })
    }
    context.write(completionsFor(shell, await context.allCommands()))
  },
  {
    examples: [
      'source <(rebuilderd ctl completions bash)',
      'rebuilderd ctl completions zsh > "${fpath[1]}/_rebuilderd"',
      'rebuilderd ctl completions fish > ~/.config/fish/completions/rebuilderd.fish',
    ],
  },
)
