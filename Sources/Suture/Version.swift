// SPDX-License-Identifier: Apache-2.0
@_exported import SutureNumerics

/// Version of the library.
public let sutureVersion = "0.1.0"
