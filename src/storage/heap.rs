//! Memory that the allocator holds although the program does not use it.

/// Gives memory that the allocator holds free back to the operating system, if the allocator can do so: glibc's can. It takes the
/// allocator's locks for a few milliseconds.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[allow(unsafe_code)]
pub(crate) fn release_free_memory() {
    // SAFETY: malloc_trim may be called at any time from any thread. It takes the locks of glibc's allocator and returns pages that
    // no allocation lies on; a program with another allocator has none that matter to it.
    unsafe { libc::malloc_trim(0) };
}

/// There is no such call.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) fn release_free_memory() {}
