// SPDX-License-Identifier: Apache-2.0
import Glibc
import Suture
import Synchronization

/// Texts handed to C as strings that are never freed. Only for texts from a small fixed set.
final class StaticStrings: Sendable {
    private let known = Mutex<[String: Unchecked<UnsafePointer<CChar>>]>([:])
    /// What is handed out when memory is exhausted.
    private let empty: Unchecked<UnsafePointer<CChar>> = {
        let pointer = UnsafeMutablePointer<CChar>.allocate(capacity: 1)
        pointer.initialize(to: 0)
        return Unchecked(UnsafePointer(pointer))
    }()

    subscript(text: String) -> UnsafePointer<CChar> {
        known.withLock { known in
            if let found = known[text] { return found }
            let made = strdup(text).map { Unchecked(UnsafePointer($0)) } ?? empty
            known[text] = made
            return made
        }.value
    }
}
