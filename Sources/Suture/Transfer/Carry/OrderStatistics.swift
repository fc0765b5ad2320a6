// SPDX-License-Identifier: Apache-2.0

/// The number between the `count` largest values and the others: halfway between the smallest of those
/// and the largest of these. With no others it is below all values. Reorders `values`.
///
/// - Parameter count: 1 to `size`.
func boundary(
    ofLargest count: Int, among values: UnsafeMutablePointer<Float>, size: Int
) -> Float {
    // Hoare's selection: afterwards the `count` largest come first.
    var (low, high) = (0, size - 1)
    let wanted = count - 1
    while low < high {
        // The median of three keeps sorted input from taking the square of its length.
        let middle = low + (high - low) / 2
        let (a, b, c) = (values[low], values[middle], values[high])
        let pivot = max(min(a, b), min(max(a, b), c))
        var (i, j) = (low, high)
        while i <= j {
            while values[i] > pivot { i += 1 }
            while values[j] < pivot { j -= 1 }
            if i <= j {
                (values[i], values[j]) = (values[j], values[i])
                i += 1
                j -= 1
            }
        }
        if wanted <= j {
            high = j
        } else if wanted >= i {
            low = i
        } else {
            break
        }
    }
    let inside = values[wanted]
    guard count < size else { return inside - max(1, abs(inside)) }
    var outside = values[count]
    for i in count..<size { outside = max(outside, values[i]) }
    return inside + (outside - inside) / 2
}
