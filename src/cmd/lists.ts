import type { Client } from '../client.ts'
import type { PageOf } from '../wire/common.ts'
import type { Endpoint, QueryOf, ReplyOf } from '../wire/endpoint.ts'

const pageSize = 1000

type Listed = { readonly id: number }
type RecordOf<E> = ReplyOf<E> extends { records: (infer T)[] } ? T : never

/**
 * The pages of a list, each with the records that the server counts in all.
 * @param query filters, and `sort`; limit and cursor are ours
 */
export async function* pagesOf<E extends Endpoint>(
  client: Client,
  row: E,
  query: Partial<QueryOf<E>>,
  size = pageSize,
): AsyncGenerator<PageOf<RecordOf<E>>> {
  let got = 0
  let after: number | undefined
  for (;;) {
    const asked = { ...query, limit: size, ...(after === undefined ? {} : { after }) }
    const page = (await client.call(row, { query: asked })) as PageOf<RecordOf<E>> // a list's reply, by RecordOf
    yield page
    got += page.records.length
    const last = page.records.at(-1) as Listed | undefined // every record of a list has its id
    if (last === undefined || got >= page.total) return
    after = last.id
  }
}

/** All records of a list, one by one, while they arrive. */
export async function* recordsOf<E extends Endpoint>(
  client: Client,
  row: E,
  query: Partial<QueryOf<E>>,
): AsyncGenerator<RecordOf<E>> {
  for await (const page of pagesOf(client, row, query)) yield* page.records
}
