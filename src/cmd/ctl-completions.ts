import { Complaint, didYouMean } from '../errors.ts'
import { command } from './command.ts'
import { completionsFor, shells } from './completions.ts'

export const completions = command(
  'ctl completions <shell>',
  'Print a completion script for bash, zsh or fish',
  {},
  async ([asked], _, context) => {
    const shell = shells.find((known) => known === asked)
    if (shell === undefined) {
      const hint = didYouMean(asked, shells) ?? `there are: ${shells.join(', ')}`
      throw new Complaint(`no completions for the shell ${asked}`, { hint, exitCode: 2 })
    }
    context.write(completionsFor(shell, await context.allCommands()))
  },
  {
    details:
      'bash: source <(rebuilderd ctl completions bash)\nzsh: rebuilderd ctl completions zsh > "${fpath[1]}/_rebuilderd"\nfish: rebuilderd ctl completions fish > ~/.config/fish/completions/rebuilderd.fish',
  },
)
