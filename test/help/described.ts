import assert from 'node:assert/strict'
import { Ajv2020, type ValidateFunction } from 'ajv/dist/2020.js'
import type { Endpoint } from '../../src/wire/endpoint.ts'
import { endpoints } from '../../src/wire/index.ts'
import { openApi } from '../../src/wire/openapi.ts'

type Described = {
  paths: Record<
    string,
    Record<string, { responses: Record<string, { content?: Record<string, { schema: object }> }> }>
  >
}

const described = openApi(endpoints, 'test') as Described
const ajv = new Ajv2020({ strict: false, validateFormats: false })
const known = new Map<string, ValidateFunction>()

/** Holds a reply against what the OpenAPI document says of it. */
function validatorOf(row: Endpoint): ValidateFunction {
  const key = `${row.method} ${row.path}`
  const operation = described.paths[row.path]?.[row.method.toLowerCase()]
  const schema = operation?.responses['200']?.content?.['application/json']?.schema
  assert.ok(schema !== undefined, `the document does not describe ${key}`)
  const validate = known.get(key) ?? ajv.compile(schema)
  known.set(key, validate)
  return validate
}

/** Looks at every reply of a server; `problems` are those that the document does not allow. */
export function watchReplies(): {
  observe: (row: Endpoint, status: number, json?: string) => void
  problems: string[]
} {
  const problems: string[] = []
  return {
    problems,
    observe(row, status, json) {
      const responses = described.paths[row.path]?.[row.method.toLowerCase()]?.responses ?? {}
      if (!Object.hasOwn(responses, status)) problems.push(`${row.method} ${row.path}: the status ${status}`)
      if (json === undefined) return
      const validate = validatorOf(row)
      if (!validate(JSON.parse(json)))
        problems.push(`${row.method} ${row.path}: ${ajv.errorsText(validate.errors)}`)
    },
  }
}
