import { html, type Html } from './html.ts'

/**
 * A table that scrolls by itself where the page is narrow, and can be reached by keyboard then.
 * @param label what a screen reader calls the region; `caption` what it calls the table
 */
export function tableOf(
  { label, caption, heads }: { label: string; caption: string; heads: readonly string[] },
  rows: readonly Html[],
): Html {
  return html`<div class="scroll" tabindex="0" role="region" aria-label="${label}">
    <table>
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
