/**
 * The plain values behind the pickers, as nodes/face/notation.py, select.py and assign.py read them.
 */

const NONE = "none"

/** @typedef {{ number: number }} Face */

/**
 * The numbers that `numbers` of Select Faces chooses in each image.
 *
 * @param {string} text such as `1,3-4`, or `1;2;none` with a list for each image
 * @param {Face[][]} images the faces of each image
 * @returns {Set<number>[] | null} null where the text cannot be read
 */
export function parseNumbers(text, images) {
  const lists = listsPerImage(text, images.length)
  const parsed = lists?.map((entries, place) => chosenIn(entries, images[place]))
  return parsed?.every(Boolean) ? parsed : null
}

/**
 * The shortest text that chooses these numbers.
 *
 * @param {Set<number>[]} chosen
 * @param {Face[][]} images
 * @returns {string}
 */
export function formatNumbers(chosen, images) {
  if (images.every((faces, place) => faces.every(({ number }) => chosen[place].has(number)))) return ""
  return joined(chosen.map((own) => [...own].sort((a, b) => a - b).join(",") || NONE))
}

/**
 * Who goes on which face of each image by `by_hand` of Swap Face.
 *
 * @param {string} text such as `1:2, 3:Anna`
 * @param {number} count of images
 * @param {string[]} names of the people
 * @returns {Map<number, number>[] | null} face number to person number, from 1; null where the text cannot be read
 */
export function parseByHand(text, count, names) {
  const parsed = listsPerImage(text, count)?.map((entries) => namedIn(entries, names))
  return parsed?.every(Boolean) ? parsed : null
}

/**
 * The text that puts these people on these faces.
 *
 * @param {Map<number, number>[]} people face number to person number, from 1, for each image
 * @param {string[]} names of the people
 * @returns {string}
 */
export function formatByHand(people, names) {
  const lists = people.map((own) =>
    [...own]
      .sort(([a], [b]) => a - b)
      .map(([face, person]) => `${face}:${reference(person, names)}`)
      .join(", "),
  )
  return joined(lists.map((list) => list || NONE))
}

function listsPerImage(text, count) {
  const lists = text.split(";").map((part) =>
    part
      .split(",")
      .map((entry) => entry.trim())
      .filter(Boolean),
  )
  if (lists.length === 1) return Array(count).fill(lists[0])
  return lists.length === count ? lists : null
}

function joined(lists) {
  return lists.every((list) => list === lists[0]) ? lists[0] : lists.join("; ")
}

function isNone(entries) {
  return entries.length === 1 && entries[0].toLowerCase() === NONE
}

function chosenIn(entries, faces) {
  const numbers = faces.map(({ number }) => number)
  if (!entries.length) return new Set(numbers)
  if (isNone(entries)) return new Set()
  const ranges = entries.map((entry) => /^(\d+)(?:\s*-\s*(\d+))?$/.exec(entry))
  if (!ranges.every(Boolean)) return null
  return new Set(
    numbers.filter((number) => ranges.some(([, first, last]) => +first <= number && number <= +(last ?? first))),
  )
}

function namedIn(entries, names) {
  if (!entries.length) return null
  const named = new Map()
  if (isNone(entries)) return named
  for (const entry of entries) {
    const match = /^(\d+)\s*:\s*(.+)$/.exec(entry)
    const person = match && personOf(match[2], names)
    if (!person) return null
    named.set(Number(match[1]), person)
  }
  return named
}

function personOf(text, names) {
  if (/^\d+$/.test(text)) return names[Number(text) - 1] === undefined ? null : Number(text)
  const places = names.flatMap((name, place) => (name.toLowerCase() === text.toLowerCase() ? [place] : []))
  return places.length === 1 ? places[0] + 1 : null
}

/** A name outlives a change of order; but not every name is one that the notation can say. */
function reference(person, names) {
  const name = names[person - 1]
  const plain = name && !/[,;:]|^\d+$/.test(name)
  return plain && personOf(name, names) === person ? name : String(person)
}
