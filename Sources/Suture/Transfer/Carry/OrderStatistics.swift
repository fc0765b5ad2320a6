// SPDX-License-Identifier: Apache-2.0

/// Finds the number between the `count` largest of many values and the others: halfway between the smallest
/// of those and the largest of these. Holds the memory that this takes.
final class LargestBoundary {
    private let candidates: Buffer<Float>
    private let probe: Buffer<Float>
    private static let probes = 512

    init(size: Int) throws {
        candidates = try Buffer(count: size, for: "scores")
        probe = try Buffer(count: Self.probes, for: "scores")
    }

    /// - Parameters:
    ///   - count: 1 to `size`. With `size` the boundary is below all values.
    ///   - size: at most that of `init`.
    func find(_ count: Int, of values: UnsafePointer<Float>, size: Int) -> Float {
        var kept = size
        let (candidates, probe) = (candidates.pointer, probe.pointer)
        if size >= 16 * Self.probes, count < size / 8 {
            // A few values tell about where the boundary is: well below it lies most, which need not be looked at.
            for i in 0..<Self.probes { probe[i] = values[i * (size / Self.probes)] }
            let expected = Double(Self.probes) * Double(count) / Double(size)
            let rank = Int(expected + 5 * expected.squareRoot() + 8)
            selectLargest(rank, probe, Self.probes)
            let low = probe[rank - 1]
            kept = 0
            for i in 0..<size where values[i] >= low {
                candidates[kept] = values[i]
                kept += 1
            }
        }
        if kept == size || kept <= count {
            candidates.update(from: values, count: size)
            kept = size
        }
        selectLargest(count, candidates, kept)
        let inside = candidates[count - 1]
        guard count < size else { return inside - max(1, abs(inside)) }
        var outside = candidates[count]
        for i in count..<kept { outside = max(outside, candidates[i]) }
        return inside + (outside - inside) / 2
    }
}

/// Hoare's selection: afterwards the `count` largest come first, the smallest of them last.
private func selectLargest(_ count: Int, _ values: UnsafeMutablePointer<Float>, _ size: Int) {
    var (low, high) = (0, size - 1)
    let wanted = count - 1
    while low < high {
        // The median of three keeps sorted input from taking the square of its length.
        let (a, b, c) = (values[low], values[low + (high - low) / 2], values[high])
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
            return
        }
    }
}
