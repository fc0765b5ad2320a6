// SPDX-License-Identifier: Apache-2.0

/// The one error type of the library. The C interface turns each case into a status of the same
/// meaning; the message is for people, callers branch on the case.
public enum SutureError: Error, Equatable, Sendable {
    /// An argument is wrong. The message names it, its value, and what was expected.
    case invalidArgument(String)
    case outOfMemory(String)
    case io(String)
    /// A file or byte string is cut short, damaged or of another format.
    case format(String)
    case cancelled
    /// An eigenproblem did not converge, a loss is not finite.
    case numerical(String)
    /// Understood, but mathematically or technically not supported.
    case unsupported(String)
    /// A defect of this library.
    case `internal`(String)

    public var message: String {
        switch self {
        case .invalidArgument(let text), .outOfMemory(let text), .io(let text), .format(let text),
            .numerical(let text), .unsupported(let text):
            return text
        case .cancelled: return "cancelled by the progress callback"
        case .internal(let text): return "internal error, please report it: \(text)"
        }
    }
}

extension SutureError: CustomStringConvertible {
    public var description: String { message }
}
