import { html, raw, type Html } from './html.ts'

/** What a screen reader calls the region and, in `caption`, the table; `small` letters where much is told. */
type Look = { label: string; caption: string; heads: readonly string[]; isSmall?: boolean }

/** A table that scrolls by itself where the page is narrow, and can be reached by keyboard then. */
export function tableOf({ label, caption, heads, isSmall = false }: Look, rows: readonly Html[]): Html {
  return html`<div class="scroll" tabindex="0" role="region" aria-label="${label}">
    <table${isSmall ? raw(` class="small"`) : ''}>
      <caption class="unseen">
        ${caption}
      </caption>
      <thead>
        <tr>
          ${heads.map((head) => html`<th scope="col">${head}</th>`)}
        </tr>
      </thead>
      <tbody>
        ${rows}
      </tbody>
    </table>
  </div>`
}
