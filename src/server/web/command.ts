/** Commands that people copy. */
import { html, shown, type Html } from './html.ts'

/** A command to copy. */
export function command(text: string, label: string): Html {
  return html`<pre
    class="command"
    tabindex="0"
    role="region"
    aria-label="${label}"
  ><code>${text}</code></pre>`
}

/** One word for a shell, whatever is in it. */
export function quoted(text: string): string {
  const plain = shown(text, 2000)
  return /^[\w@%+=:,./~-]+$/.test(plain) ? plain : `'${plain.replaceAll("'", `'\\''`)}'`
}
