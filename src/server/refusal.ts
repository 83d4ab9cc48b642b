export type RefusalStatus = 400 | 403 | 404 | 406 | 408 | 409 | 413 | 429 | 500 | 503

/** A reply that is no success, with one line of text for the caller; the empty text makes an empty reply. */
export class Refusal extends Error {
  readonly status: RefusalStatus

  constructor(status: RefusalStatus, text = '') {
    super(text)
    this.name = 'Refusal'
    this.status = status
  }
}

/** The answer where there is no such thing. */
export function notFound(): Refusal {
  return new Refusal(404)
}

/** The value, or 404. */
export function found<T>(value: T | null | undefined): T {
  if (value === null || value === undefined) throw notFound()
  return value
}
