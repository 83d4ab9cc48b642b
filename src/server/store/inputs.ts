/** What lists of builds and of jobs are narrowed by: the build input that each row belongs to. */
import { sql, trusted, type Sql, type Transaction } from './database.ts'
import { someOf, type Condition } from './narrow.ts'
import type { Origin } from './origins.ts'
import { given } from './page.ts'

export type JobFilter = Origin & {
  component?: string | null | undefined
  name?: string | null | undefined
  version?: string | null | undefined
}

/** How many rows of the list belong to inputs, and in whose order they lie together. */
type OfInputs = {
  rows: (scopes: readonly number[]) => Promise<number>
  rowsOf: (inputs: Sql) => Promise<number>
  together: readonly string[]
}

/** Conditions on the input that `column` names. */
export function inputsWith(
  tx: Transaction,
  column: string,
  { name, version, component }: JobFilter,
  scopes: readonly number[] | null,
  { rows, rowsOf, together }: OfInputs,
): Condition[] {
  const input = trusted(column)
  /** Looked up by the input's id, or tested from the row. */
  const ofInputs = (inputs: Sql, test: Sql, more: Omit<Condition, 'test'>): Condition => ({
    test: (sign) => (sign.text === '' ? sql`${input} IN (${inputs})` : test),
    ...more,
  })
  const ofSource = (condition: Sql): Condition => {
    const inputs = sql`SELECT i.id FROM source_packages s CROSS JOIN build_inputs i ON i.source_package_id = s.id WHERE ${condition}`
    const test = sql`EXISTS (SELECT 1 FROM build_inputs i CROSS JOIN source_packages s ON s.id = i.source_package_id WHERE i.id = ${input} AND +${condition})`
    return ofInputs(inputs, test, { rows: () => rowsOf(inputs) })
  }
  const ofScopes = (ids: readonly number[]): Condition =>
    ofInputs(
      sql`SELECT i.id FROM scopes y CROSS JOIN build_inputs i ON i.scope_id = y.id WHERE y.id IN ${ids}`,
      sql`(SELECT i.scope_id FROM build_inputs i WHERE i.id = ${input}) IN ${ids}`,
      { rows: () => rows(ids), together },
    )
  const ofComponent = (value: string): Condition => {
    const inputs = sql`SELECT DISTINCT i.id FROM scopes y CROSS JOIN binary_packages b ON b.scope_id = y.id
      CROSS JOIN build_inputs i ON i.source_package_id = b.source_package_id WHERE b.component = ${value}`
    const test = sql`EXISTS (SELECT 1 FROM build_inputs i CROSS JOIN binary_packages b ON b.source_package_id = i.source_package_id
      WHERE i.id = ${input} AND +b.component = ${value})`
    const some = sql`SELECT 1 FROM scopes y CROSS JOIN binary_packages b ON b.scope_id = y.id WHERE b.component = ${value}`
    return ofInputs(inputs, test, { rows: () => someOf(tx, some) })
  }
  return [
    ...given(scopes, ofScopes),
    ...given(name, (value) => ofSource(sql`s.name = ${value}`)),
    ...given(version, (value) => ofSource(sql`s.version = ${value}`)),
    ...given(component, ofComponent),
  ]
}
