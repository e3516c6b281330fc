/** The API's routes as the panel calls them, with the token that its user has given for this session. */
import { api } from "../../../scripts/api.js"

const BASE = "/flux-face/v1"
const TOKEN = "flux-face.token"

/** What the server answers in place of what was asked for. */
export class Refusal extends Error {
  /**
   * @param {number} status of HTTP; 0 where there was no answer
   * @param {string} code stable; empty where the answer is none of the API's
   * @param {string} message for people, in English
   */
  constructor(status, code, message) {
    super(message)
    this.status = status
    this.code = code
  }

  /** Whether a token, or another one, is what is missing. */
  get asksForToken() {
    return this.status === 401
  }
}

/** Keep a token until the browser's tab is closed. @param {string} token */
export function keepToken(token) {
  sessionStorage.setItem(TOKEN, token)
}

/** Forget the token. */
export function forgetToken() {
  sessionStorage.removeItem(TOKEN)
}

/** @returns {boolean} whether one is kept */
export function hasToken() {
  return sessionStorage.getItem(TOKEN) !== null
}

/**
 * Ask the API.
 *
 * @param {string} path below /flux-face/v1
 * @param {{method?: string, body?: object}} [request]
 * @returns {Promise<any>} the JSON that it answers
 * @throws {Refusal}
 */
export async function call(path, { method = "GET", body } = {}) {
  const answer = await send(path, { method, body: body && JSON.stringify(body) })
  return answer.json()
}

/**
 * A picture's file.
 *
 * @param {string} path on the server, as a job's status names it
 * @returns {Promise<Blob>}
 * @throws {Refusal}
 */
export async function picture(path) {
  const answer = await send(path.slice(BASE.length), {})
  return answer.blob()
}

/** An address of the API as another program calls it. @param {string} path below /flux-face/v1 */
export function address(path) {
  return new URL(api.fileURL(BASE + path), location.href).href
}

/** @returns {Promise<Response>} */
async function send(path, options) {
  const headers = options.body ? { "Content-Type": "application/json" } : {}
  const token = sessionStorage.getItem(TOKEN)
  if (token !== null) headers.Authorization = `Bearer ${token}`
  let answer
  try {
    answer = await api.fetchApi(BASE + path, { ...options, headers, cache: "no-store" })
  } catch (error) {
    throw new Refusal(0, "", String(error))
  }
  if (answer.ok) return answer
  const refusal = await answer.json().then(
    (found) => found.error,
    () => undefined,
  )
  throw new Refusal(answer.status, refusal?.code ?? "", refusal?.message ?? `HTTP ${answer.status}`)
}
